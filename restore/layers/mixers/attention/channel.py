"""Attention between channels instead of positions: linear in the number of pixels, and global.

Restormer's multi-Dconv head transposed attention, Zamir et al. 2022, arXiv 2111.09881, section 3.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import nn

from restore.layers.arguments import require_positive
from restore.layers.exportable import unflattened
from restore.layers.mixers.base import Mixer
from restore.registry import MIXERS

__all__ = ["ChannelAttention"]


@MIXERS.add("channel", "transposed")
class ChannelAttention(Mixer):
    """Attention whose tokens are the channels of a head, each described by its values at all positions.

    Args:
        dim: channels of the map.
        num_heads: attention heads.
    """

    side_by_side: ClassVar[Mapping[str, int]] = {"qkv": 3, "conv": 3}

    def __init__(self, dim: int, num_heads: int = 6):
        require_positive(num_heads=num_heads)
        super().__init__(dim, halo_px=None)
        if dim % num_heads:
            raise ValueError(f"dim {dim} must be a multiple of num_heads {num_heads}")
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.conv = nn.Conv2d(3 * dim, 3 * dim, 3, padding=1, groups=3 * dim)
        self.temperature = nn.Parameter(torch.ones(num_heads, 1, 1))
        self.proj = nn.Linear(dim, dim)

    def mix(self, x_BHWC: torch.Tensor) -> torch.Tensor:
        """Mix channels by the similarity of what they show."""
        H, W = x_BHWC.shape[1:3]
        qkv = self.conv(self.qkv(x_BHWC).permute(0, 3, 1, 2)).flatten(2)
        q, k, v = qkv.unflatten(1, (3, self.num_heads, -1)).unbind(1)  # each (B, h, C / h, HW)
        scores = F.normalize(q.float(), dim=-1) @ F.normalize(k.float(), dim=-1).transpose(-2, -1) * self.temperature
        mixed = scores.softmax(dim=-1).to(v.dtype) @ v
        return unflattened(mixed.flatten(1, 2).transpose(1, 2), 1, (H, W))
