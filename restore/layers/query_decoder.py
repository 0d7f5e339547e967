"""Queries that look at maps of several levels around a box of their own: Deformable DETR's encoder and decoder.

Zhu et al. 2020, arXiv 2010.04159, after DETR, Carion et al. 2020, arXiv 2005.12872. Official code:
github.com/fundamentalvision/Deformable-DETR (Apache-2.0). Here norms stand before the branches, places are in pixels,
and boxes are refined in units of their own size, so that a part of a photograph is seen as the same photograph is.

Shape legend: B batch, L levels, N positions of all levels together, Q queries, C channels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import nn

from restore.layers.cross_attention import CrossAttention
from restore.layers.ffn import MLP
from restore.layers.mixers.attention.deformable import DeformableAttention

__all__ = ["LevelLayer", "Levels", "QueryLayer", "box_features", "moved"]

MOST_GROWTH = 2.0  # of the logarithm of a side, in one refinement


class Levels(NamedTuple):
    """Maps of one image at several strides.

    Attributes:
        maps: (B, H, W, C) each, the finest first.
        strides: pixels from one position to the next, of each level.
    """

    maps: Sequence[torch.Tensor]
    strides: Sequence[int]

    def tokens(self) -> torch.Tensor:
        """(B, N, C): every position of every level, row by row, the finest level first."""
        return torch.cat([each.flatten(1, 2) for each in self.maps], dim=1)

    def with_tokens(self, tokens_BNC: torch.Tensor) -> Levels:
        """The same levels with other values."""
        parts = tokens_BNC.split([each.shape[1] * each.shape[2] for each in self.maps], dim=1)
        return self._replace(maps=[p.unflatten(1, m.shape[1:3]) for p, m in zip(parts, self.maps, strict=True)])

    def cells(self, side: float) -> torch.Tensor:
        """(N, 4): a square around each position, `side` strides wide, as centre x, y, width and height in pixels."""
        cells = []
        for each, stride in zip(self.maps, self.strides, strict=True):
            _, height, width, _ = each.shape
            rows, columns = (torch.arange(n, device=each.device) * stride + stride / 2 for n in (height, width))
            centres = torch.stack([columns.expand(height, -1), rows[:, None].expand(-1, width)], dim=-1).flatten(0, 1)
            cells.append(torch.cat([centres, torch.full_like(centres, side * stride)], dim=-1))
        return torch.cat(cells)

    def shares(self, places_px: torch.Tensor) -> torch.Tensor:
        """(..., L, n): places in pixels, (..., n) with n 2 or 4, in shares of the sides of each level."""
        spans = [[m.shape[2] * s, m.shape[1] * s] for m, s in zip(self.maps, self.strides, strict=True)]
        spans_L2 = torch.tensor(spans, dtype=places_px.dtype, device=places_px.device)
        return places_px[..., None, :] / spans_L2.repeat(1, places_px.shape[-1] // 2)


class LevelLayer(nn.Module):
    """Every position of every level looks at a few points of all levels, and at itself.

    Args:
        dim: C.
        num_levels: L.
        num_heads: of the attention.
        num_points: of each level and head.
        mlp_ratio: hidden width of the feed-forward network over C.
    """

    def __init__(self, dim: int, num_levels: int, num_heads: int = 4, num_points: int = 4, mlp_ratio: float = 2.0):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = DeformableAttention(dim, num_heads, num_points, num_levels)
        self.ffn = MLP(dim, mlp_ratio)

    def forward(self, levels: Levels) -> Levels:
        """The same levels with other values."""
        x_BNC = levels.tokens()
        seen = levels.with_tokens(self.norm1(x_BNC))
        references = levels.shares(levels.cells(1)[:, :2]).to(x_BNC).expand(len(x_BNC), -1, -1, -1)
        attended = self.attention.attend(seen.tokens(), references, seen.maps)
        x_BNC = x_BNC + self.attention.project(attended)
        return levels.with_tokens(x_BNC + self.ffn(self.norm2(x_BNC)))


class QueryLayer(nn.Module):
    """Queries look at each other, then at the levels, each around its box.

    Args: as `LevelLayer`.
    """

    def __init__(self, dim: int, num_levels: int, num_heads: int = 4, num_points: int = 4, mlp_ratio: float = 2.0):
        super().__init__()
        self.norm1, self.norm2, self.norm3 = nn.LayerNorm(dim), nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.among = CrossAttention(dim, num_heads)
        self.attention = DeformableAttention(dim, num_heads, num_points, num_levels)
        self.ffn = MLP(dim, mlp_ratio)

    def forward(
        self, query_BQC: torch.Tensor, places_BQC: torch.Tensor, boxes_BQ4: torch.Tensor, levels: Levels
    ) -> torch.Tensor:
        """(B, Q, C).

        Args:
            query_BQC: the queries.
            places_BQC: what each knows of its box; it is part of queries and keys, and not of values.
            boxes_BQ4: the boxes, as centre x, y, width and height in pixels.
            levels: what they look at.
        """
        normed = self.norm1(query_BQC)
        query_BQC = query_BQC + self.among(normed + places_BQC, normed + places_BQC, values_BMC=normed)
        looking = self.norm2(query_BQC) + places_BQC
        attended = self.attention.attend(looking, levels.shares(boxes_BQ4), levels.maps)
        query_BQC = query_BQC + self.attention.project(attended)
        return query_BQC + self.ffn(self.norm3(query_BQC))


def moved(boxes: torch.Tensor, steps: torch.Tensor) -> torch.Tensor:
    """Boxes (..., 4) after a step: the centre by so many widths and heights, these by the exponential of the rest.

    Where a box lies and how large the image is does not matter, unlike in the logits of DETR.
    """
    centres = boxes[..., :2] + steps[..., :2] * boxes[..., 2:]
    return torch.cat([centres, boxes[..., 2:] * steps[..., 2:].clamp(-MOST_GROWTH, MOST_GROWTH).exp()], dim=-1)


def box_features(boxes_px: torch.Tensor, num_waves: int = 8) -> torch.Tensor:
    """(..., 8 num_waves): sines and cosines of the centre and of the logarithm of the size of boxes in pixels.

    DAB-DETR, Liu et al. 2022, arXiv 2201.12329, section 4.1: what queries know of where they are.
    """
    waves = 2.0 ** torch.arange(num_waves, device=boxes_px.device) * (math.pi / 1024)
    sizes = boxes_px[..., 2:].clamp(min=1e-3).log() * (1024 / 64)
    angles = torch.cat([boxes_px[..., :2], sizes], dim=-1)[..., None] * waves
    return torch.cat([angles.sin(), angles.cos()], dim=-1).flatten(-2)
