"""Talking heads: scores are mixed over heads before softmax, and weights after it.

Shazeer et al. 2020, arXiv 2003.02436; the attention of CaiT (Touvron et al. 2021, arXiv 2103.17239), whose keys are
kept. Official code of CaiT: github.com/facebookresearch/deit (Apache-2.0). Checked against timm.
"""

from __future__ import annotations

import torch
from torch import nn

from restore.layers.mixers.attention.full import AttentionPosition, MapAttention
from restore.registry import MIXERS

__all__ = ["HeadMixing", "TalkingHeads"]


class HeadMixing(nn.Module):
    """A matrix over heads; at first the identity, so that attention begins as that without it.

    Args:
        num_heads: h.
        bias: whether a number is added to each head's map.
    """

    def __init__(self, num_heads: int, bias: bool = True):
        super().__init__()
        self.weight = nn.Parameter(torch.eye(num_heads))
        self.bias = nn.Parameter(torch.zeros(num_heads)) if bias else None

    def forward(self, map_BhNN: torch.Tensor) -> torch.Tensor:
        """(B, h, N, N) to the same shape."""
        return nn.functional.conv2d(map_BhNN, self.weight[..., None, None], self.bias)


@MIXERS.add("talking_heads")
class TalkingHeads(MapAttention):
    """Attention whose heads are mixed before and after softmax.

    Args:
        dim: channels.
        num_heads: attention heads.
        qkv_bias: whether queries, keys and values have a bias.
        mixing_bias: whether the mixing of heads has a bias.
        position: see `SelfAttention`.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int = 6,
        qkv_bias: bool = True,
        mixing_bias: bool = True,
        position: AttentionPosition = "none",
    ):
        super().__init__(dim, num_heads, qkv_bias, position)
        self.proj_l, self.proj_w = HeadMixing(num_heads, mixing_bias), HeadMixing(num_heads, mixing_bias)

    def change_scores(self, scores_BhNN: torch.Tensor) -> torch.Tensor:
        """The mixed scores."""
        return self.proj_l(scores_BhNN)

    def change_map(self, map_BhNN: torch.Tensor) -> torch.Tensor:
        """The mixed weights."""
        return self.proj_w(map_BhNN)
