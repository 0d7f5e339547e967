"""Separable filters for metrics: exact in float64, fast without a float64 convolution, differentiable."""

from __future__ import annotations

import torch

__all__ = ["filter_valid", "gaussian_taps"]


def gaussian_taps(size: int, sigma: float) -> list[float]:
    """The taps of a Gaussian of odd `size` that sum to one (a row of MATLAB's fspecial)."""
    offsets = torch.arange(size, dtype=torch.float64) - size // 2
    taps = torch.exp(-offsets.square() / (2 * sigma**2))
    return (taps / taps.sum()).tolist()


def filter_valid(x_BCHW: torch.Tensor, taps: list[float]) -> torch.Tensor:
    """Filter rows and columns with symmetric `taps` of odd length where they fit: (B, C, H - n + 1, W - n + 1).

    A sum of shifted slices: in float64, this is several times faster on a CPU than a convolution.
    """
    for dim in (-2, -1):
        x_BCHW = _filter_dim(x_BCHW, taps, dim)
    return x_BCHW


def _filter_dim(x: torch.Tensor, taps: list[float], dim: int) -> torch.Tensor:
    last = len(taps) - 1
    length = x.shape[dim] - last
    total = x.narrow(dim, last // 2, length) * taps[last // 2]
    for offset, tap in enumerate(taps[: last // 2]):
        for start in (offset, last - offset):
            total = total.add_(x.narrow(dim, start, length), alpha=tap)
    return total
