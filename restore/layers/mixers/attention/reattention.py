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
        map_BhNN, value_BhNd = self._map_and_values(tokens)
        return (map_BhNN @ value_BhNd).transpose(1, 2).flatten(2)

    def attention_map(self, tokens: Tokens) -> torch.Tensor:
        """(B, heads, N, N): the mixed maps, whose rows need not sum to 1."""
        return self._map_and_values(tokens)[0]

    def _map_and_values(self, tokens: Tokens) -> tuple[torch.Tensor, torch.Tensor]:
        q, k, v = self.qkv(tokens.x_BNC).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        scores = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5
        if tokens.weight_BN is not None:
            scores = scores + tokens.weight_BN.log()[:, None, None]
        return self.var_norm(self.reatten_matrix(scores.softmax(dim=-1))) * self.factor, v
