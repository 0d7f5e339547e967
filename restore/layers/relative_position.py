"""What attention of a whole map may know of places: numbers added to the scores, by the way between two patches.

Every kind takes grids of any size. Shape legend: B batch, N patches of a grid, h heads, d channels of a head.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import nn

from restore.layers.arguments import require_positive
from restore.layers.position_bias import gather_bias, relative_position_index, resized_bias_table
from restore.layers.precision import without_autocast

__all__ = ["ContextualBias", "ContinuousBias", "RelativePosition", "TableBias"]


class RelativePosition(nn.Module, ABC):
    """Base of what is added to the scores of attention."""

    @abstractmethod
    def scores(self, queries_BhNd: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
        """(h, N, N), or (B, h, N, N) where it depends on the queries; columns are what is looked at.

        Args:
            queries_BhNd: of the patches of a grid, times the scale of the scores.
            grid: rows and columns.
        """


class TableBias(RelativePosition):
    """A learned number for each way and head (Swin Transformer, Liu et al. 2021, arXiv 2103.14030).

    Args:
        num_heads: attention heads.
        side: of the grid that the table is made for; for others it is resized (bicubic).
    """

    def __init__(self, num_heads: int, side: int):
        super().__init__()
        require_positive(grid_side=side)
        self.table = nn.Parameter(torch.empty((2 * side - 1) ** 2, num_heads))
        nn.init.trunc_normal_(self.table, std=0.02)

    def scores(self, queries_BhNd: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
        """(h, N, N)."""
        index_NN = relative_position_index(grid).to(self.table.device)
        return gather_bias(resized_bias_table(self.table, grid), index_NN)


class ContinuousBias(nn.Sequential, RelativePosition):
    """A small network of the way between two patches on a logarithmic scale; the bias is between 0 and 16.

    Swin v2, Liu et al. 2021, arXiv 2111.09883, section 3.3. Keys are those of its `cpb_mlp`.

    Args:
        num_heads: attention heads.
        side: of the grid whose longest way is 1 on the scale; others are on the same scale, and nothing is resized.
        hidden_dim: width of the network.
    """

    def __init__(self, num_heads: int, side: int, hidden_dim: int = 512):
        super().__init__(nn.Linear(2, hidden_dim), nn.ReLU(), nn.Linear(hidden_dim, num_heads, bias=False))
        require_positive(grid_side=side)
        self.side = side

    def scores(self, queries_BhNd: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
        """(h, N, N)."""
        return self.of_grid(grid)

    def of_grid(self, grid: tuple[int, int]) -> torch.Tensor:
        """(h, N, N) for a grid of this many rows and columns."""
        weight = next(self.parameters())
        with without_autocast(weight):
            along = [torch.arange(1 - size, size, device=weight.device).to(weight.dtype) for size in grid]
            ways = torch.stack(torch.meshgrid(*along, indexing="ij"), dim=-1) * (8 / max(self.side - 1, 1))
            ways = ways.sign() * (1 + ways.abs()).log2() / 3
            table_Rh = 16 * torch.sigmoid(self(ways.flatten(0, 1)))
            return gather_bias(table_Rh, relative_position_index(grid).to(weight.device))


class ContextualBias(RelativePosition):
    """A learned vector for each kind of way, times the query; far ways share a vector.

    iRPE, Wu et al. 2021, arXiv 2107.14222: "contextual product" on keys, shared by heads. Rows and columns are counted
    exactly near by and on a logarithmic scale further away (equation 18). Keys are those of its `rpe_k`.

    Args:
        head_dim: d.
        ratio: of the published distances 1, 2 and 8 at which ways begin to share, are all the same kind, and the scale
            is anchored.
        others: whether there is one more vector, the last, for pairs of which one is no patch.
    """

    def __init__(self, head_dim: int, ratio: float = 1.9, others: bool = False):
        super().__init__()
        self.near, self.last, self.far = ratio, 2 * ratio, 8 * ratio
        self.lookup_table_weight = nn.Parameter(torch.zeros(1, head_dim, (2 * int(self.last) + 1) ** 2 + others))

    def scores_with_others(self, queries_BhNd: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
        """(B, h, N, N) for the queries of a grid and of tokens before it, which have a vector of their own."""
        num_others = queries_BhNd.shape[2] - grid[0] * grid[1]
        of_patches = self.scores(queries_BhNd[:, :, num_others:], grid)
        of_others = queries_BhNd @ self.lookup_table_weight[0, :, -1:].to(queries_BhNd.dtype)
        below = torch.cat([of_others[:, :, num_others:].expand(-1, -1, -1, num_others), of_patches], dim=-1)
        return torch.cat([of_others[:, :, :num_others].expand(-1, -1, -1, below.shape[-1]), below], dim=2)

    def scores(self, queries_BhNd: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
        """(B, h, N, N)."""
        of_kinds_BhNK = queries_BhNd @ self.lookup_table_weight.to(queries_BhNd.dtype)
        kinds_NN = self.kinds(grid).to(of_kinds_BhNK.device)
        num_patches = grid[0] * grid[1]
        return of_kinds_BhNK.gather(-1, kinds_NN.expand(*of_kinds_BhNK.shape[:2], num_patches, num_patches))

    def kinds(self, grid: tuple[int, int]) -> torch.Tensor:
        """(N, N): which vector belongs to each pair of patches."""
        last = int(self.last)
        rows, columns = (self._kinds_along(size) + last for size in grid)
        kinds = rows[:, None, :, None] * (2 * last + 1) + columns[None, :, None, :]
        return kinds.reshape(grid[0] * grid[1], -1)

    def _kinds_along(self, size: int) -> torch.Tensor:
        """(size, size) from -last to last."""
        places = torch.arange(size)
        ways = places[:, None] - places
        distances = ways.abs().double().clamp(min=1)
        steps = self.near + (distances / self.near).log() / math.log(self.far / self.near) * (self.last - self.near)
        shared = ways.sign() * steps.round().clamp(max=self.last).long()
        return torch.where(ways.abs() <= self.near, ways, shared)
