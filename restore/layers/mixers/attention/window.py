"""Attention inside square windows, with a learned bias for each relative position.

Swin Transformer (Liu et al. 2021, arXiv 2103.14030); the mixer of SwinIR and, with other key names, of Uformer.
Official code: github.com/microsoft/Swin-Transformer (MIT). Checked against the official code of SwinIR.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from torch import nn

from restore.layers.arguments import require_positive
from restore.layers.mixers.base import Mixer
from restore.layers.position_bias import RelativePositionBias
from restore.layers.window import attend_in_windows, window_plan
from restore.registry import MIXERS

__all__ = ["WindowAttention"]


@MIXERS.add("shifted_window", shifted=True)
@MIXERS.add("window")
class WindowAttention(RelativePositionBias, Mixer):
    """Multi-head attention of the positions of each window.

    Args:
        dim: channels of the map.
        num_heads: attention heads.
        window_size: side of the windows.
        shifted: move the windows by half their side; blocks with and without take turns.
        position: "table", a learned bias for each relative position and head, or "none".
        qkv_bias: whether queries, keys and values have a bias.
    """

    table_name = "table"
    derived_keys = ()
    side_by_side: ClassVar[Mapping[str, int]] = {"qkv": 3}

    def __init__(
        self,
        dim: int,
        num_heads: int = 6,
        window_size: int = 8,
        shifted: bool = False,
        position: Literal["table", "none"] = "table",
        qkv_bias: bool = True,
    ):
        require_positive(num_heads=num_heads, window_size=window_size)
        super().__init__(dim, size_multiple=window_size, halo_px=window_size - 1)
        if dim % num_heads:
            raise ValueError(f"dim {dim} must be a multiple of num_heads {num_heads}")
        self.num_heads = num_heads
        self.window, self.shift = (window_size, window_size), (window_size // 2 * shifted,) * 2
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)
        self.has_table = position == "table"
        if self.has_table:
            self.add_bias_table(self.window, num_heads)

    def mix(self, x_BHWC: torch.Tensor) -> torch.Tensor:
        """Attention inside the windows of the map."""
        B, H, W, _ = x_BHWC.shape
        plan = window_plan(B, H, W, self.window, self.shift, x_BHWC.device)
        bias = self.position_bias() if self.has_table else None
        return attend_in_windows(x_BHWC, self.qkv, self.num_heads, bias, plan)
