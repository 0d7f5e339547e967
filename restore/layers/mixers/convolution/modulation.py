"""Convolutional modulation: a depth-wise convolution of the map weights its values, where attention has a softmax.

Conv2Former, Hou et al. 2022, arXiv 2211.11943, section 3.2: y = W_o (DW_k(gelu(W_1 x)) * W_2 x). Official code:
github.com/HVision-NKU/Conv2Former (Apache-2.0). Checked against the official code.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import nn

from restore.layers.arguments import require_odd
from restore.layers.mixers.base import Mixer
from restore.registry import MIXERS

__all__ = ["ConvModulation"]


@MIXERS.add("conv_modulation")
class ConvModulation(Mixer):
    """Values times a depth-wise convolution of the map.

    Args:
        dim: channels of the map.
        kernel_size: side of the convolution, odd.
    """

    side_by_side: ClassVar[Mapping[str, int]] = {}

    def __init__(self, dim: int, kernel_size: int = 11):
        require_odd(kernel_size=kernel_size)
        super().__init__(dim, halo_px=kernel_size // 2)
        self.a = nn.Linear(dim, dim)
        self.conv = nn.Conv2d(dim, dim, kernel_size, padding=kernel_size // 2, groups=dim)
        self.v = nn.Linear(dim, dim)
        self.proj = nn.Linear(dim, dim)

    def mix(self, x_BHWC: torch.Tensor) -> torch.Tensor:
        """The weighted values."""
        weights = self.conv(F.gelu(self.a(x_BHWC)).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return weights * self.v(x_BHWC)
