"""Attention in windows by cosines, with a continuous bias of relative positions: Swin v2.

Liu et al. 2021, arXiv 2111.09883, sections 3.2 and 3.3, whose keys are kept. Official code:
github.com/microsoft/Swin-Transformer (MIT). Checked against timm.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

from restore.layers.arguments import require_positive
from restore.layers.mixers.attention.full import cosine_queries_and_keys
from restore.layers.mixers.base import Mixer
from restore.layers.precision import without_autocast
from restore.layers.relative_position import ContinuousBias
from restore.layers.window import join_windows, split_windows, window_attention, window_plan
from restore.registry import MIXERS

__all__ = ["CosineWindowAttention"]


@MIXERS.add("shifted_cosine_window", shifted=True)
@MIXERS.add("cosine_window")
class CosineWindowAttention(Mixer):
    """Multi-head attention of the positions of each window; scores are cosines over a learned temperature.

    Args:
        dim: channels of the map.
        num_heads: attention heads.
        window_size: side of the windows.
        shifted: move the windows by half their side; blocks with and without take turns.
        pretrained_window_size: side of the windows that the bias was learned for; `window_size` when None.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int = 6,
        window_size: int = 8,
        shifted: bool = False,
        pretrained_window_size: int | None = None,
    ):
        require_positive(num_heads=num_heads, window_size=window_size)
        super().__init__(dim, size_multiple=window_size, halo_px=window_size - 1)
        if dim % num_heads:
            raise ValueError(f"dim {dim} must be a multiple of num_heads {num_heads}")
        self.num_heads = num_heads
        self.window, self.shift = (window_size, window_size), (window_size // 2 * shifted,) * 2
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.q_bias, self.v_bias = nn.Parameter(torch.zeros(dim)), nn.Parameter(torch.zeros(dim))
        self.logit_scale = nn.Parameter(torch.full((num_heads, 1, 1), math.log(10)))
        self.cpb_mlp = ContinuousBias(num_heads, pretrained_window_size or window_size)
        self.proj = nn.Linear(dim, dim)

    def mix(self, x_BHWC: torch.Tensor) -> torch.Tensor:
        """Attention inside the windows of the map."""
        B, H, W, _ = x_BHWC.shape
        plan = window_plan(B, H, W, self.window, self.shift, x_BHWC.device)
        bias = torch.cat([self.q_bias, torch.zeros_like(self.q_bias), self.v_bias])
        qkv_WNC = F.linear(split_windows(x_BHWC, plan), self.qkv.weight, bias)
        with without_autocast(x_BHWC):
            q, k, v = qkv_WNC.unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
            q, k = cosine_queries_and_keys(q, k, self.logit_scale)
            qkv_WNC = torch.stack([q, k, v.to(q.dtype)]).permute(1, 3, 0, 2, 4).flatten(2)
            mixed_WNC = window_attention(qkv_WNC, self.num_heads, self.cpb_mlp.of_grid(self.window), plan, scale=1.0)
        return join_windows(mixed_WNC, plan, x_BHWC.shape)
