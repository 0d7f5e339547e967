"""Activations that are computed again in the backward pass instead of being kept: less memory, more time."""

from __future__ import annotations

import functools

from torch import nn
from torch.utils.checkpoint import checkpoint

from restore.layers.repeated import repeated_blocks

__all__ = ["checkpoint_blocks"]


def checkpoint_blocks(network: nn.Module) -> None:
    """Compute the activations of each repeated block again in the backward pass."""
    for block in repeated_blocks(network):
        block.forward = functools.partial(checkpoint, block.forward, use_reentrant=False)
