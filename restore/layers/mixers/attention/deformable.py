"""Deformable attention: each position looks at a few points, whose places and weights it says itself.

Deformable DETR, Zhu et al. 2020, arXiv 2010.04159, section 4.1, whose keys are kept. Official code:
github.com/fundamentalvision/Deformable-DETR (Apache-2.0). Checked against the official code.

Shape legend: B batch, Q queries, L levels (maps of several sizes), h heads, P points of each level, d channels of a
head.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import nn

from restore.layers.arguments import require_positive
from restore.layers.exportable import unflattened
from restore.layers.mixers.base import Mixer
from restore.layers.precision import without_autocast
from restore.registry import MIXERS

__all__ = ["DeformableAttention", "sampled_sum"]


@MIXERS.add("deformable")
class DeformableAttention(Mixer):
    """Attention to a few points around each position, on the map and on smaller ones made of it.

    At first the points lie in a direction for each head, 1 to P positions away, and count alike.

    Args:
        dim: channels of the map.
        num_heads: attention heads.
        num_points: P.
        num_levels: L; each level is made of means of 2 x 2 positions of the one before.
    """

    def __init__(self, dim: int, num_heads: int = 6, num_points: int = 4, num_levels: int = 1):
        require_positive(num_heads=num_heads, num_points=num_points, num_levels=num_levels)
        super().__init__(dim, halo_px=None)
        if dim % num_heads:
            raise ValueError(f"dim {dim} must be a multiple of num_heads {num_heads}")
        self.num_heads, self.num_points, self.num_levels = num_heads, num_points, num_levels
        self.sampling_offsets = nn.Linear(dim, 2 * num_heads * num_levels * num_points)
        self.attention_weights = nn.Linear(dim, num_heads * num_levels * num_points)
        self.value_proj, self.output_proj = nn.Linear(dim, dim), nn.Linear(dim, dim)
        for layer in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(layer.weight)
        for layer in (self.sampling_offsets, self.attention_weights, self.value_proj, self.output_proj):
            nn.init.zeros_(layer.bias)
        for layer in (self.sampling_offsets, self.attention_weights):
            nn.init.zeros_(layer.weight)
        angles_h = torch.arange(num_heads, dtype=torch.float32) * (2 * math.pi / num_heads)
        directions_h2 = torch.stack([angles_h.cos(), angles_h.sin()], dim=-1)
        directions_h2 = directions_h2 / directions_h2.abs().amax(dim=-1, keepdim=True)
        steps = torch.arange(1, num_points + 1, dtype=torch.float32)
        offsets = directions_h2[:, None, None] * steps[:, None]
        with torch.no_grad():
            self.sampling_offsets.bias.copy_(offsets.expand(-1, num_levels, -1, -1).flatten())

    def projection(self) -> nn.Linear:
        """The last linear map."""
        return self.output_proj

    def linear_maps(self) -> Iterator[tuple[torch.Tensor, bool]]:
        """Places and weights are not on the way of the values, and keep their first values."""
        return iter(((self.value_proj.weight, True), (self.output_proj.weight, True)))

    def linear_biases(self) -> Iterator[torch.Tensor]:
        """Those on the way of the values."""
        return iter((self.value_proj.bias, self.output_proj.bias))

    def mix(self, x_BHWC: torch.Tensor) -> torch.Tensor:
        """The weighted sums of what lies at the points."""
        B, H, W, _ = x_BHWC.shape
        maps, x_BCHW = [x_BHWC], x_BHWC.permute(0, 3, 1, 2)
        for _ in range(self.num_levels - 1):
            x_BCHW = F.avg_pool2d(x_BCHW, 2, ceil_mode=True)
            maps.append(x_BCHW.permute(0, 2, 3, 1))
        exact = torch.float64 if x_BHWC.dtype == torch.float64 else torch.float32
        rows, columns = (torch.arange(0.5, size, device=x_BHWC.device, dtype=exact) / size for size in (H, W))
        places_HW2 = torch.stack([columns.expand(H, -1), rows[:, None].expand(-1, W)], dim=-1)
        references = places_HW2.flatten(0, 1)[None, :, None].expand(B, -1, self.num_levels, -1)
        return unflattened(self.attend(x_BHWC.flatten(1, 2), references, maps), 1, (H, W))

    def attend(
        self, query_BQC: torch.Tensor, references_BQLn: torch.Tensor, maps: Sequence[torch.Tensor]
    ) -> torch.Tensor:
        """(B, Q, C) of any queries, before the output projection.

        Args:
            query_BQC: what says places and weights.
            references_BQLn: column and row that points are counted from, in 0 to 1 of each level; n is 2, or 4 with a
                width and height: an offset of the number of points is then half of these, else it is so many positions.
            maps: the levels, channels last.
        """
        parts = (self.num_heads, self.num_levels, self.num_points)
        offsets = self.sampling_offsets(query_BQC).unflatten(-1, (*parts, 2)).to(references_BQLn.dtype)
        weights = self.attention_weights(query_BQC).unflatten(-1, (self.num_heads, -1)).softmax(dim=-1)
        centres, boxes = references_BQLn[:, :, None, :, None].split((2, references_BQLn.shape[-1] - 2), dim=-1)
        if boxes.shape[-1]:
            places = centres + offsets * (boxes / (2 * self.num_points))
        else:
            sizes = references_BQLn.new_tensor([[each.shape[2], each.shape[1]] for each in maps])
            places = centres + offsets / sizes[:, None]
        values = [self.value_proj(each).unflatten(-1, (self.num_heads, -1)) for each in maps]
        return sampled_sum(values, places, weights.unflatten(-1, parts[1:])).flatten(2)


def sampled_sum(values: Sequence[torch.Tensor], places: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """(B, Q, h, d): weighted sums of what lies at given places of several maps, by bilinear interpolation.

    Args:
        values: a map (B, H, W, h, d) for each level; beyond its border are zeros.
        places: (B, Q, h, L, P, 2) column and row, from 0 at the left and upper border to 1 at the other.
        weights: (B, Q, h, L, P).
    """
    total: torch.Tensor | None = None
    exact = torch.float64 if values[0].dtype == torch.float64 else torch.float32
    with without_autocast(values[0]):
        for level, value in enumerate(values):
            value_Bd = value.to(exact).permute(0, 3, 4, 1, 2).flatten(0, 1)  # (B h, d, H, W)
            grid = (2 * places[:, :, :, level].to(exact) - 1).transpose(1, 2).flatten(0, 1)  # (B h, Q, P, 2)
            sampled = F.grid_sample(value_Bd, grid, align_corners=False).unflatten(0, value.shape[::3])
            part = torch.einsum("bhdqp,bqhp->bqhd", sampled, weights[:, :, :, level].to(exact))
            total = part if total is None else total + part
    assert total is not None
    return total.to(values[0].dtype)
