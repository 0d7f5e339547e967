"""Outlook attention: each position says, without looking at others, how the positions around it mix.

VOLO, Yuan et al. 2021, arXiv 2106.13112, section 3.1, whose keys are kept. Official code: github.com/sail-sg/volo
(Apache-2.0). Checked against timm.

Shape legend: B batch, L centres, h heads, d channels of a head, K = kernel_size^2 positions around a centre.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from restore.layers.arguments import require_odd, require_positive
from restore.layers.mixers.base import Mixer
from restore.registry import MIXERS

__all__ = ["OutlookAttention"]


@MIXERS.add("outlook")
class OutlookAttention(Mixer):
    """Around each centre K values become K weighted sums of them; what overlaps is summed.

    Args:
        dim: channels of the map.
        num_heads: attention heads.
        kernel_size: side of the neighbourhood, odd.
        stride: positions from centre to centre, up to `kernel_size`; a centre is the mean of a square of this side.
        bias: whether the values have a bias.
    """

    def __init__(self, dim: int, num_heads: int = 6, kernel_size: int = 3, stride: int = 1, bias: bool = False):
        require_positive(num_heads=num_heads, stride=stride)
        require_odd(kernel_size=kernel_size)
        if dim % num_heads or stride > kernel_size:
            raise ValueError(
                f"dim {dim} must be a multiple of num_heads {num_heads}, and stride {stride} at most {kernel_size}"
            )
        radius = kernel_size // 2
        super().__init__(dim, halo_px=max(2 * radius, radius + stride - 1))
        self.num_heads, self.kernel_size, self.stride = num_heads, kernel_size, stride
        self.v = nn.Linear(dim, dim, bias=bias)
        self.attn = nn.Linear(dim, num_heads * kernel_size**4)
        self.proj = nn.Linear(dim, dim)

    def mix(self, x_BHWC: torch.Tensor) -> torch.Tensor:
        """The sums of what overlaps."""
        H, W = x_BHWC.shape[1:3]
        num_positions, around = self.kernel_size**2, self.kernel_size // 2
        values_BCHW = self.v(x_BHWC).permute(0, 3, 1, 2)
        values = F.unfold(values_BCHW, self.kernel_size, padding=around, stride=self.stride)
        values_BhLKd = values.unflatten(1, (self.num_heads, -1, num_positions)).permute(0, 1, 4, 3, 2)
        centres_BHWC = x_BHWC
        if self.stride > 1:
            means = F.avg_pool2d(x_BHWC.permute(0, 3, 1, 2), self.stride, ceil_mode=True)
            centres_BHWC = means.permute(0, 2, 3, 1)
        scores = self.attn(centres_BHWC).flatten(1, 2) * values_BhLKd.shape[-1] ** -0.5
        scores_BhLKK = scores.unflatten(-1, (self.num_heads, num_positions, num_positions)).transpose(1, 2)
        mixed_BhLKd = scores_BhLKK.softmax(dim=-1) @ values_BhLKd
        mixed = mixed_BhLKd.permute(0, 1, 4, 3, 2).flatten(1, 3)
        return F.fold(mixed, (H, W), self.kernel_size, padding=around, stride=self.stride).permute(0, 2, 3, 1)
