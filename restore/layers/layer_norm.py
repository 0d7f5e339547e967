"""The norm of transformers: channels-last maps (B, H, W, C) or tokens (B, N, C) in and out."""

from __future__ import annotations

import torch
from torch import nn

from restore.layers.compiled.norm import compiled_layer_norm
from restore.registry import NORMS

__all__ = ["LayerNorm"]


@NORMS.add("layer")
class LayerNorm(nn.LayerNorm):
    """Mean 0 and variance 1 over the channels of each position (Ba et al. 2016, arXiv 1607.06450).

    Args:
        dim: channels.
        eps: added to the variance.
    """

    computes_layer_norm = True
    """To compiled code, which takes over from it."""

    def __init__(self, dim: int, eps: float = 1e-5):
        super().__init__(dim, eps)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, ..., C) to the same shape."""
        out = compiled_layer_norm(x, self.weight, self.bias, self.eps)
        return super().forward(x) if out is None else out
