"""Attention of all tokens to all: Transformer, Vaswani et al. 2017, arXiv 1706.03762; ViT, arXiv 2010.11929."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from restore.layers.arguments import require_positive
from restore.layers.mixers.base import TokenMixer
from restore.layers.tokens import Tokens
from restore.registry import MIXERS

__all__ = ["SelfAttention"]


@MIXERS.add("attention")
class SelfAttention(TokenMixer):
    """Multi-head attention of all tokens of an image.

    Tokens that stand for several are attended to accordingly: the logarithm of their number is added to their scores
    (ToMe, Bolya et al. 2022, arXiv 2210.09461, equation 1), so that merging equal tokens changes nothing.

    Args:
        dim: channels.
        num_heads: attention heads.
        qkv_bias: whether queries, keys and values have a bias.
    """

    def __init__(self, dim: int, num_heads: int = 6, qkv_bias: bool = True):
        require_positive(num_heads=num_heads)
        super().__init__(dim)
        if dim % num_heads:
            raise ValueError(f"dim {dim} must be a multiple of num_heads {num_heads}")
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)

    def mix_tokens(self, tokens: Tokens) -> torch.Tensor:
        """Attention of every token to every other of its image."""
        q, k, v = self.qkv(tokens.x_BNC).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        mask = None if tokens.weight_BN is None else tokens.weight_BN.log()[:, None, None].to(q.dtype)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2)

    def map_and_values(self, tokens: Tokens) -> tuple[torch.Tensor, torch.Tensor]:
        """The map (B, heads, N, N), whose rows sum to 1, and the values (B, heads, N, d): for what changes maps."""
        q, k, v = self.qkv(tokens.x_BNC).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        scores = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5
        if tokens.weight_BN is not None:
            scores = scores + tokens.weight_BN.log()[:, None, None]
        return scores.softmax(dim=-1), v
