"""Initial weights of transformers, as the published codes of SwinIR, Uformer and EDT draw them."""

from __future__ import annotations

from torch import nn

__all__ = ["initialise_linear"]


def initialise_linear(module: nn.Module) -> None:
    """A linear layer gets truncated normal weights of standard deviation 0.02 and no bias; others stay as they are.

    For `network.apply(initialise_linear)`.
    """
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
