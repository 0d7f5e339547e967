"""Attention in flat windows for one half of the channels and in tall windows for the other, with LePE.

The mixer of EDT (Li et al. 2021, arXiv 2112.10175, section 3.2), which takes the crossed stripes and the locally
enhanced positional encoding from CSWin (Dong et al. 2021, arXiv 2107.00652). Official code: github.com/fenglinglwb/EDT
(no licence), of which only facts are taken. Checked against the official code.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

from restore.layers.arguments import require_positive
from restore.layers.mixers.base import Mixer
from restore.layers.window import join_windows, split_windows, window_attention, window_plan
from restore.registry import MIXERS

__all__ = ["StripeAttention"]


@MIXERS.add("stripe")
class StripeAttention(Mixer):
    """Crossed stripe attention.

    Args:
        dim: channels of the map; each half attends by itself.
        num_heads: heads of each half.
        window_size: height and width of the first half's windows; those of the second half are transposed.
        shifted: move the windows by half their size, as every other block does.
    """

    def __init__(self, dim: int, num_heads: int = 6, window_size: tuple[int, int] = (6, 24), shifted: bool = False):
        require_positive(num_heads=num_heads, window_size=window_size)
        super().__init__(dim, size_multiple=math.lcm(*window_size), halo_px=max(window_size) - 1)
        if dim % (2 * num_heads):
            raise ValueError(f"dim {dim} must be a multiple of twice num_heads ({num_heads})")
        first, second = window_size
        self.num_heads = num_heads
        self.windows = ((first, second), (second, first))
        self.shifts = tuple((h // 2, w // 2) if shifted else (0, 0) for h, w in self.windows)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.attns = nn.ModuleList(WindowPosition(dim // 2, window) for window in self.windows)
        self.proj = nn.Linear(dim, dim)

    def mix(self, x_BHWC: torch.Tensor) -> torch.Tensor:
        """Attention of both halves, side by side."""
        return torch.cat([self._attend(x_BHWC, half) for half in (0, 1)], dim=-1)

    def _attend(self, x_BHWC: torch.Tensor, half: int) -> torch.Tensor:
        B, H, W, C = x_BHWC.shape
        plan = window_plan(B, H, W, self.windows[half], self.shifts[half], x_BHWC.device)
        weight = self.qkv.weight.view(3, 2, C // 2, C)[:, half].flatten(0, 1)
        bias = self.qkv.bias.view(3, 2, C // 2)[:, half].flatten()
        qkv_WNC = F.linear(split_windows(x_BHWC, plan), weight, bias)
        mixed = window_attention(qkv_WNC, self.num_heads, None, plan) + self.attns[half](qkv_WNC[..., C:])
        return join_windows(mixed, plan, (B, H, W, C // 2))


class WindowPosition(nn.Module):
    """Locally enhanced positional encoding: a 3x3 depth-wise convolution that does not look beyond its window."""

    def __init__(self, dim: int, window: tuple[int, int]):
        super().__init__()
        self.window = window
        self.lepe = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)

    def forward(self, value_WNC: torch.Tensor) -> torch.Tensor:
        windows_WCHW = value_WNC.unflatten(1, self.window).permute(0, 3, 1, 2)
        return self.lepe(windows_WCHW).permute(0, 2, 3, 1).flatten(1, 2)
