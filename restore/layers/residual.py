"""What stands on the way between a branch and the residual stream."""

from __future__ import annotations

import torch
from torch import nn

__all__ = ["DropPath", "FixedScale", "LayerScale"]


class DropPath(nn.Module):
    """Stochastic depth (Huang et al. 2016, arXiv 1603.09382): in training, a sample's branch is dropped with `rate`."""

    def __init__(self, rate: float = 0.0):
        super().__init__()
        self.rate = rate

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`x` with the branches of some samples set to zero, the others scaled up."""
        if not (self.rate and self.training):
            return x
        kept = torch.empty((x.shape[0],) + (1,) * (x.ndim - 1), dtype=x.dtype, device=x.device)
        return x * (kept.bernoulli_(1 - self.rate) / (1 - self.rate))


class LayerScale(nn.Module):
    """A learned factor for each channel of a branch, small at first (CaiT, Touvron et al. 2021, arXiv 2103.17239)."""

    def __init__(self, dim: int, initial: float = 1e-5):
        super().__init__()
        self.gamma = nn.Parameter(torch.full((dim,), initial))

    def forward(self, x_BHWC: torch.Tensor) -> torch.Tensor:
        """(..., C) to the same shape."""
        return x_BHWC * self.gamma


class FixedScale(nn.Module):
    """A factor of a branch that is not learned."""

    def __init__(self, factor: float):
        super().__init__()
        self.factor = factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`x` times the factor."""
        return x * self.factor
