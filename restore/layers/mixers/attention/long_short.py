"""Long-short range attention: one half of the channels attends, the other is convolved, and the halves do not meet.

LSRA of Lite Transformer, Wu et al. 2020, arXiv 2004.11886, section 4; lightweight and dynamic convolutions are of Wu et
al. 2019, arXiv 1901.10430. Official code: github.com/mit-han-lab/lite-transformer (BSD). Here for maps: attention is in
windows, kernels are squares. The feed-forward network lets the halves meet.
Checked against closed forms.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from restore.layers.arguments import require_odd, require_positive
from restore.layers.group_linear import GroupLinear
from restore.layers.mixers.base import Mixer
from restore.layers.position_bias import RelativePositionBias
from restore.layers.window import join_windows, split_windows, window_attention, window_plan
from restore.registry import MIXERS

__all__ = ["LongShortAttention"]


@MIXERS.add("lsra")
class LongShortAttention(RelativePositionBias, Mixer):
    """Window attention of the first half of the channels, a gated convolution of the second.

    The weights of the convolution are positive and sum to 1 over the kernel; they are shared by the channels of a head.

    Args:
        dim: channels of the map.
        num_heads: heads of each half.
        window_size: side of the windows.
        shifted: move the windows by half their side; blocks with and without take turns.
        kernel_size: side of the convolution, odd; the paper has 3, 7, 15 and 31 in turn.
        dynamic: each position says the weights of its own kernel, instead of one learned kernel for all.
    """

    table_name = "table"
    derived_keys = ()

    def __init__(
        self,
        dim: int,
        num_heads: int = 6,
        window_size: int = 8,
        shifted: bool = False,
        kernel_size: int = 7,
        dynamic: bool = False,
    ):
        require_positive(num_heads=num_heads, window_size=window_size)
        require_odd(kernel_size=kernel_size)
        super().__init__(dim, size_multiple=window_size, halo_px=max(window_size - 1, kernel_size // 2))
        if dim % (2 * num_heads):
            raise ValueError(f"dim {dim} must be a multiple of twice num_heads ({num_heads})")
        half = dim // 2
        self.num_heads, self.kernel_size = num_heads, kernel_size
        self.window, self.shift = (window_size, window_size), (window_size // 2 * shifted,) * 2
        self.qkv = nn.Linear(half, 3 * half)
        self.add_bias_table(self.window, num_heads)
        self.gated = nn.Linear(half, 2 * half)
        self.kernel = nn.Parameter(0.02 * torch.randn(num_heads, kernel_size**2)) if not dynamic else None
        self.weigh = nn.Linear(half, num_heads * kernel_size**2) if dynamic else None
        self.proj = GroupLinear(dim, dim, 2)

    def mix(self, x_BHWC: torch.Tensor) -> torch.Tensor:
        """Both halves, side by side."""
        far_BHWC, near_BHWC = x_BHWC.chunk(2, dim=-1)
        B, H, W, _ = x_BHWC.shape
        plan = window_plan(B, H, W, self.window, self.shift, x_BHWC.device)
        qkv_WNC = self.qkv(split_windows(far_BHWC, plan))
        attended = window_attention(qkv_WNC, self.num_heads, self.position_bias(), plan)
        return torch.cat([join_windows(attended, plan, far_BHWC.shape), self._convolved(near_BHWC)], dim=-1)

    def _convolved(self, x_BHWC: torch.Tensor) -> torch.Tensor:
        gated_BCHW = F.glu(self.gated(x_BHWC), dim=-1).permute(0, 3, 1, 2)
        C, H, W = gated_BCHW.shape[1:]
        size, around = self.kernel_size, self.kernel_size // 2
        if self.weigh is None:
            assert self.kernel is not None
            weights_hK = self.kernel.softmax(dim=-1)
            weights_C1KK = weights_hK.repeat_interleave(C // self.num_heads, dim=0).view(C, 1, size, size)
            return F.conv2d(gated_BCHW, weights_C1KK, padding=around, groups=C).permute(0, 2, 3, 1)
        weights_BhKHW = self.weigh(gated_BCHW.permute(0, 2, 3, 1)).unflatten(-1, (self.num_heads, -1)).softmax(dim=-1)
        weights_BhKHW = weights_BhKHW.permute(0, 3, 4, 1, 2)
        padded_BCHW = F.pad(gated_BCHW, (around,) * 4).unflatten(1, (self.num_heads, -1))
        total = torch.zeros_like(padded_BCHW[..., :H, :W])
        for place in range(size**2):  # one neighbour at a time, as all of them would be kernel_size^2 maps
            down, across = divmod(place, size)
            total = total + padded_BCHW[..., down : down + H, across : across + W] * weights_BhKHW[:, :, place, None]
        return total.flatten(1, 2).permute(0, 2, 3, 1)
