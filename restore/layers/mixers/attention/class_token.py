"""Class attention: only the class token looks, at itself and at all patches.

CaiT, Touvron et al. 2021, arXiv 2103.17239, section 3, whose keys are kept. Official code:
github.com/facebookresearch/deit (Apache-2.0). Checked against timm.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from restore.layers.arguments import require_positive
from restore.layers.mixers.base import TokenMixer
from restore.layers.tokens import Tokens
from restore.registry import MIXERS

__all__ = ["ClassAttention"]


@MIXERS.add("class_attention")
class ClassAttention(TokenMixer):
    """Attention of the tokens in front of the grid to all tokens; what comes out for the patches is 0.

    On a map, which has no such token, the mean of all positions looks, and every position is given what it finds: one
    vector for the whole image.

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
        self.q, self.k, self.v = (nn.Linear(dim, dim, bias=qkv_bias) for _ in range(3))
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: torch.Tensor | Tokens) -> torch.Tensor:
        """(B, H, W, C) to the same shape; for tokens (B, N, C)."""
        if not isinstance(x, Tokens) or not x.num_prefix:
            return super().forward(x)
        found_BPC = self.project(self._found(x, x.prefix_BNC))
        return F.pad(found_BPC, (0, 0, 0, x.x_BNC.shape[1] - x.num_prefix))

    def pool(self, tokens: Tokens) -> torch.Tensor:
        """(B, C): what the first token finds, or the mean of all where none stands in front of the grid."""
        looking_B1C = tokens.x_BNC[:, :1] if tokens.num_prefix else _mean(tokens)
        return self.project(self._found(tokens, looking_B1C))[:, 0]

    def mix_tokens(self, tokens: Tokens) -> torch.Tensor:
        """What the mean of all tokens finds, at every token."""
        return self._found(tokens, _mean(tokens)).expand(-1, tokens.x_BNC.shape[1], -1)

    def _found(self, tokens: Tokens, looking_BPC: torch.Tensor) -> torch.Tensor:
        q, k, v = (
            layer(each).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for layer, each in ((self.q, looking_BPC), (self.k, tokens.x_BNC), (self.v, tokens.x_BNC))
        )
        added = None if tokens.weight_BN is None else tokens.weight_BN.log()[:, None, None].to(q.dtype)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=added).transpose(1, 2).flatten(2)


def _mean(tokens: Tokens) -> torch.Tensor:
    """(B, 1, C): of all original tokens."""
    if tokens.weight_BN is None:
        return tokens.x_BNC.mean(dim=1, keepdim=True)
    weight_BN1 = tokens.weight_BN[..., None].to(tokens.x_BNC.dtype)
    return (tokens.x_BNC * weight_BN1).sum(dim=1, keepdim=True) / weight_BN1.sum(dim=1, keepdim=True)
