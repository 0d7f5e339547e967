"""Re-attention: the maps of the heads are mixed with each other, so that deep layers do not attend all alike.

DeepViT, Zhou et al. 2021, arXiv 2103.11886, equation 3: BN(Theta softmax(Q K^T / sqrt(d))) V.
"""

from __future__ import annotations

import torch
from torch import nn

from restore.layers.mixers.attention.full import SelfAttention
from restore.layers.tokens import Tokens
from restore.registry import MIXERS

__all__ = ["ReAttention"]


@MIXERS.add("reattention")
class ReAttention(SelfAttention):
    """Attention whose maps go through a learned matrix over heads and a batch norm.

    Args:
        dim: channels.
        num_heads: attention heads.
        qkv_bias: whether queries, keys and values have a bias.
        scaled: divide the mixed maps by the root of the width of a head, as DeepViT-S does.
    """

    def __init__(self, dim: int, num_heads: int = 6, qkv_bias: bool = True, scaled: bool = False):
        super().__init__(dim, num_heads, qkv_bias)
        self.reatten_matrix = nn.Conv2d(num_heads, num_heads, 1)
        self.var_norm = nn.BatchNorm2d(num_heads)
        self.factor = (dim // num_heads) ** -0.5 if scaled else 1.0

    def mix_tokens(self, tokens: Tokens) -> torch.Tensor:
        """Attention of every token to every other of its image."""
        map_BhNN, value_BhNd = self.map_and_values(tokens)
        return (map_BhNN @ value_BhNd).transpose(1, 2).flatten(2)

    def map_and_values(self, tokens: Tokens) -> tuple[torch.Tensor, torch.Tensor]:
        """The mixed maps, whose rows need not sum to 1, and the values."""
        map_BhNN, value_BhNd = super().map_and_values(tokens)
        return self.var_norm(self.reatten_matrix(map_BhNN)) * self.factor, value_BhNd
