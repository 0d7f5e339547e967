"""Resized tokens: a map is made small, each channel of the small map is a token, and the result is made large again.

The lightweight transformer of HR-NAS, Ding et al. 2021, arXiv 2106.06560, section 3.2. Official code:
github.com/dingmyu/HR-NAS (MIT). What is made large here are the tokens, before their projection to the channels, which
is the same in evaluation; in training the last batch norm sees the large map. Checked against the official code.

Shape legend: B batch, H x W map, C channels, L tokens, P = side^2 positions of the small map.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from restore.layers.arguments import require_positive
from restore.layers.exportable import resized_with_filter
from restore.layers.mixers.base import Mixer
from restore.layers.normed_linear import NormedLinear
from restore.registry import MIXERS

__all__ = ["ResizedTokens"]


@MIXERS.add("resized_tokens")
class ResizedTokens(Mixer):
    """An encoder and a decoder layer on tokens that are pictures of the whole map, for maps of any size.

    Args:
        dim: C.
        num_tokens: L.
        side: of the small map.
        num_heads: attention heads; a divisor of `side`^2.
        decoder: whether learned queries look at the tokens after they have looked at each other.
        antialias: let every position count in the small map; published networks, which do not, skip most of them.
    """

    places: torch.Tensor

    def __init__(
        self,
        dim: int,
        num_tokens: int = 8,
        side: int = 8,
        num_heads: int = 1,
        decoder: bool = True,
        antialias: bool = True,
    ):
        require_positive(num_tokens=num_tokens, side=side, num_heads=num_heads)
        if side**2 % num_heads:
            raise ValueError(f"side^2 = {side**2} must be a multiple of num_heads {num_heads}")
        super().__init__(dim, inner_dim=num_tokens, halo_px=None)
        self.side, self.antialias = side, antialias
        self.input_proj = NormedLinear(dim + 2, num_tokens, bias=False)
        self.encoder = TokenLayer(side**2, num_heads)
        self.decoder = TokenLayer(side**2, num_heads) if decoder else None
        self.query_embed = nn.Embedding(num_tokens, side**2) if decoder else None
        self.reverse_proj = NormedLinear(num_tokens, dim, bias=False)
        self.register_buffer("places", standard_places(side, side), persistent=False)

    def projection(self) -> nn.Linear:
        """The last linear map and its norm."""
        return self.reverse_proj

    def mix(self, x_BHWC: torch.Tensor) -> torch.Tensor:
        """The tokens, at the size of the map."""
        B, H, W, _ = x_BHWC.shape
        x_BCHW, size = x_BHWC.permute(0, 3, 1, 2), (self.side, self.side)
        small = resized_with_filter(x_BCHW, size) if self.antialias else F.interpolate(x_BCHW, size, mode="bilinear")
        places_BssC = self.places.to(x_BHWC.dtype).expand(B, -1, -1, -1)
        seen_BssL = self.input_proj(torch.cat([small.permute(0, 2, 3, 1), places_BssC], dim=-1))
        tokens_BLP = self.encoder(seen_BssL.flatten(1, 2).transpose(1, 2))
        if self.decoder is not None and self.query_embed is not None:
            tokens_BLP = self.decoder(tokens_BLP, self.query_embed.weight.expand(B, -1, -1))
        small_BLss = tokens_BLP.unflatten(2, size)
        return F.interpolate(small_BLss, (H, W), mode="bilinear").permute(0, 2, 3, 1)


class TokenLayer(nn.Module):
    """Attention and a feed-forward network, norms after the sums, no biases but theirs.

    Queries that are given look at the tokens, and what they find is added to the tokens, as the official code does.
    """

    def __init__(self, dim: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.qkv, self.proj = nn.Linear(dim, 3 * dim, bias=False), nn.Linear(dim, dim, bias=False)
        self.fc1, self.fc2 = nn.Linear(dim, dim, bias=False), nn.Linear(dim, dim, bias=False)
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)

    def forward(self, tokens_BLP: torch.Tensor, queries_BLP: torch.Tensor | None = None) -> torch.Tensor:
        """(B, L, P) to the same shape."""
        looking_BLP = tokens_BLP if queries_BLP is None else queries_BLP
        weights = self.qkv.weight.chunk(3)
        q, k, v = (
            F.linear(each, weight).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for each, weight in zip((looking_BLP, tokens_BLP, tokens_BLP), weights, strict=True)
        )
        mixed_BLP = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        tokens_BLP = self.norm1(tokens_BLP + self.proj(mixed_BLP))
        return self.norm2(tokens_BLP + self.fc2(F.relu(self.fc1(tokens_BLP))))


def standard_places(height: int, width: int) -> torch.Tensor:
    """(H, W, 2): column and row of each position, each of mean 0 and deviation 1 over the map; 0 along a side of 1."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    places = torch.stack([columns, rows], dim=-1).double()
    deviation = places.std(dim=(0, 1), correction=0).clamp(min=1e-12)
    return ((places - places.mean(dim=(0, 1))) / deviation).float()
