"""Compiling a network block by block: one graph serves every repetition, so warming up takes seconds, not minutes."""

from __future__ import annotations

from collections import Counter

from torch import nn

__all__ = ["compile_blocks", "repeated_blocks"]


def repeated_blocks(network: nn.Module) -> list[nn.Module]:
    """The innermost modules that stand at least twice, as one class, in a list or sequence of the network.

    These are the blocks of a Transformer or the residual blocks of a convolutional network. Single layers of torch
    itself do not count. A network without any is its own only block.
    """
    blocks: list[nn.Module] = []
    for container in network.modules():
        if isinstance(container, (nn.ModuleList, nn.Sequential)):
            children = [child for child in container if not type(child).__module__.startswith("torch.")]
            counts = Counter(type(child) for child in children)
            blocks += [child for child in children if counts[type(child)] > 1]
    inner = [block for block in blocks if not any(other in blocks for other in list(block.modules())[1:])]
    return inner or [network]


def compile_blocks(network: nn.Module, *, backend: str = "inductor") -> int:
    """Compile the repeated blocks of `network` in place; returns how many there are."""
    blocks = repeated_blocks(network)
    for block in blocks:
        block.compile(backend=backend)
    return len(blocks)
