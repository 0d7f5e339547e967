"""The outermost repeated blocks of a network: what is compiled, checkpointed or sharded one by one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable

from torch import nn

__all__ = ["repeated_blocks"]


def repeated_blocks(network: nn.Module) -> list[nn.Module]:
    """The outermost repeated blocks of a network, none inside another: they hold most of its weights.

    These are the blocks of a Transformer or the residual blocks of a convolutional network: of a class that stands at
    least twice in some list or sequence. Stages that are themselves lists of blocks give way to these; blocks with some
    small thing twice inside, such as two kinds of windows, do not. Single layers of torch itself do not count. A
    network without any is its own only block.
    """
    repeated: set[type] = set()
    for container in network.modules():
        if isinstance(container, (nn.ModuleList, nn.Sequential)):
            counts = Counter(type(child) for child in container)
            repeated |= {kind for kind in counts if counts[kind] > 1 and not kind.__module__.startswith("torch.")}
    return _blocks_in(network, repeated) or [network]


def _blocks_in(module: nn.Module, repeated: Collection[type]) -> list[nn.Module]:
    """The modules below of repeated classes; where some hold others, the inner ones if most weights are theirs."""
    blocks: list[nn.Module] = []
    for child in module.children():
        inside = _blocks_in(child, repeated)
        is_block = type(child) in repeated and 2 * _num_weights(inside) <= _num_weights([child])
        blocks += [child] if is_block else inside
    return blocks


def _num_weights(modules: Iterable[nn.Module]) -> int:
    return sum(parameter.numel() for module in modules for parameter in module.parameters())
