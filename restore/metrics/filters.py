"""Separable filters for metrics: exact in float64, fast without a float64 convolution, differentiable."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    import torch

__all__ = ["filter_valid", "gaussian_taps"]


def gaussian_taps(size: int, sigma: float) -> list[float]:
    """The taps of a Gaussian of odd `size` that sum to one (a row of MATLAB's fspecial)."""
    taps = [math.exp(-((index - size // 2) ** 2) / (2 * sigma**2)) for index in range(size)]
    total = math.fsum(taps)
    return [tap / total for tap in taps]


def filter_valid(x_BCHW: torch.Tensor, taps: list[float]) -> torch.Tensor:
    """Filter rows and columns with symmetric `taps` of odd length where they fit: (B, C, H - n + 1, W - n + 1).

    On a CPU, OpenCV does it in one pass over each plane. Where a gradient or another device is wanted it is a sum of
    shifted slices, which in float64 is still several times faster than a convolution.
    """
    if x_BCHW.device.type == "cpu" and not x_BCHW.requires_grad:
        return _filter_planes(x_BCHW, np.array(taps))
    for dim in (-2, -1):
        x_BCHW = _filter_dim(x_BCHW, taps, dim)
    return x_BCHW


def _filter_planes(x: torch.Tensor, taps: np.ndarray) -> torch.Tensor:
    import torch

    planes = x.contiguous().flatten(0, -3).numpy()
    filtered = np.empty_like(planes)
    for plane, target in zip(planes, filtered, strict=True):
        cv2.sepFilter2D(plane, -1, taps, taps, dst=target)
    margin = len(taps) // 2
    height, width = x.shape[-2:]
    return torch.from_numpy(filtered).view(x.shape)[..., margin : height - margin, margin : width - margin]


def _filter_dim(x: torch.Tensor, taps: list[float], dim: int) -> torch.Tensor:
    last = len(taps) - 1
    length = x.shape[dim] - last
    total = x.narrow(dim, last // 2, length) * taps[last // 2]
    for offset, tap in enumerate(taps[: last // 2]):
        for start in (offset, last - offset):
            total = total.add_(x.narrow(dim, start, length), alpha=tap)
    return total
