"""Compiling a network block by block: one graph serves every repetition, so warming up takes seconds, not minutes.

On a processor, blocks whose branches the compiled library computes whole (`whole_branches`) are left as they are where
nothing is learnt: `torch.compile` would take the branches apart again. Compiled, SwinIR-light took 1.33 of the time in
float32 and 0.96 in bfloat16; without the library it took 1.01 and 1.17, so there they are left too (64 px, one thread,
`scripts/bench/compiled.py --compile`).
"""

from __future__ import annotations

import logging

from torch import nn

from restore.layers.repeated import repeated_blocks

__all__ = ["compile_blocks"]

logger = logging.getLogger(__name__)


def compile_blocks(network: nn.Module, *, backend: str = "inductor", learning: bool = True) -> int:
    """Compile the repeated blocks of `network` in place; returns how many were compiled.

    Args:
        network: on its device.
        backend: of `torch.compile`.
        learning: whether gradients will be wanted.
    """
    blocks = repeated_blocks(network)
    compiled = [block for block in blocks if learning or not _is_left(block)]
    if len(compiled) < len(blocks):
        logger.warning(
            "compile: %d of %d blocks of %s are not compiled: on a processor that would make them slower, or no "
            "faster.",
            *(len(blocks) - len(compiled), len(blocks), type(network).__name__),
        )
    for block in compiled:
        block.compile(backend=backend)
    return len(compiled)


def _is_left(block: nn.Module) -> bool:
    """Whether a block runs as fast as it is."""
    whole = any(getattr(module, "whole_branches", False) for module in block.modules())
    return whole and all(parameter.is_cpu for parameter in block.parameters())
