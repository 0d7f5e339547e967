"""Re-attention: the maps of the heads are mixed with each other, so that deep layers do not attend all alike.

DeepViT, Zhou et al. 2021, arXiv 2103.11886, equation 3: BN(Theta softmax(Q K^T / sqrt(d))) V. Official code:
github.com/zhoudaquan/dvit_repo (MIT). Checked against the official code.
"""

from __future__ import annotations

import torch
from torch import nn

from restore.layers.mixers.attention.full import AttentionPosition, MapAttention
from restore.registry import MIXERS

__all__ = ["ReAttention"]


@MIXERS.add("reattention")
class ReAttention(MapAttention):
    """Attention whose maps go through a learned matrix over heads and a batch norm.

    Args:
        dim: channels.
        num_heads: attention heads.
        qkv_bias: whether queries, keys and values have a bias.
        scaled: multiply the mixed maps by the factor of the scores, as DeepViT-S does.
        position: see `SelfAttention`.
        qk_scale: see `SelfAttention`.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int = 6,
        qkv_bias: bool = True,
        scaled: bool = False,
        position: AttentionPosition = "none",
        qk_scale: float | None = None,
    ):
        super().__init__(dim, num_heads, qkv_bias, position, qk_scale=qk_scale)
        self.reatten_matrix = nn.Conv2d(num_heads, num_heads, 1)
        self.var_norm = nn.BatchNorm2d(num_heads)
        factor = (dim // num_heads) ** -0.5 if qk_scale is None else qk_scale
        self.factor = factor if scaled else 1.0

    def change_map(self, map_BhNN: torch.Tensor) -> torch.Tensor:
        """The mixed maps."""
        return self.var_norm(self.reatten_matrix(map_BhNN)) * self.factor
