"""Compiling a network block by block: one graph serves every repetition, so warming up takes seconds, not minutes."""

from __future__ import annotations

from torch import nn

from restore.layers.repeated import repeated_blocks

__all__ = ["compile_blocks"]


def compile_blocks(network: nn.Module, *, backend: str = "inductor") -> int:
    """Compile the repeated blocks of `network` in place; returns how many there are."""
    blocks = repeated_blocks(network)
    for block in blocks:
        block.compile(backend=backend)
    return len(blocks)
