"""Graph convolution: each position looks at those that are most alike, wherever they are.

ViG, Han et al. 2022, arXiv 2206.00272, section 3; the convolutions are in `restore.layers.mixers.graph.convolutions`.
Official code: github.com/huawei-noah/Efficient-AI-Backbones (Apache-2.0). Checked against the official code.

Shape legend: N positions, M those that may be neighbours, k neighbours of each, C channels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from restore.layers.activations import Activation
from restore.layers.arguments import require_positive
from restore.layers.exportable import is_exporting, is_of_size, unflattened
from restore.layers.mixers.base import Mixer
from restore.layers.mixers.graph.convolutions import CONVOLUTIONS, GraphConvolution, GraphNorm, grouped_layers
from restore.layers.normed_linear import NormedLinear
from restore.layers.precision import without_autocast
from restore.registry import MIXERS

__all__ = ["NeighbourGraph", "nearest_neighbours", "relative_distances"]


@MIXERS.add("knn_graph")
class NeighbourGraph(Mixer):
    """A graph convolution; by default a position, and the largest difference of its neighbours from it, by channel.

    Args:
        dim: channels of the map; even.
        num_neighbours: k, of which one is usually the position itself; all where there are fewer.
        dilation: of the k * dilation most alike, in order, every dilation-th is taken.
        reduction: neighbours are means of squares of this side; the sides of the map are multiples of it.
        grid_side: side of the map for which there are distances that grow with the way between two positions, added
            to those of features; for maps of another size they are resampled. None: only features count.
        conv: the convolution: "mr", "edge", "sage" or "gin", see `restore.layers.mixers.graph.convolutions`.
        activation: after the convolution.
        norm: before the activation: "batch", "instance" (each channel over all positions of an image), or "none".
        bias: of the convolution.
        stochastic: probability, in training, that the k are drawn among the k * dilation most alike.
    """

    chooses = True
    relative_pos: torch.Tensor | None

    def __init__(
        self,
        dim: int,
        num_neighbours: int = 9,
        dilation: int = 1,
        reduction: int = 1,
        grid_side: int | None = None,
        conv: GraphConvolution = "mr",
        activation: Activation = "gelu",
        norm: GraphNorm = "batch",
        bias: bool = True,
        stochastic: float = 0.0,
    ):
        require_positive(num_neighbours=num_neighbours, dilation=dilation, reduction=reduction)
        if dim % 2 or (grid_side is not None and dim % 4):
            raise ValueError(f"a graph takes a multiple of {2 if grid_side is None else 4} channels, given {dim}")
        if not 0 <= stochastic <= 1:
            raise ValueError(f"stochastic is {stochastic}: a probability is between 0 and 1")
        super().__init__(dim, inner_dim=2 * dim, size_multiple=reduction, halo_px=None)
        self.num_neighbours, self.dilation, self.reduction = num_neighbours, dilation, reduction
        self.fc1 = NormedLinear(dim, dim)
        self.conv, self.stochastic = conv, stochastic
        for name, layers in grouped_layers(conv, dim, activation, norm, bias).items():
            self.add_module(name, layers)
        if conv == "gin":
            self.eps = nn.Parameter(torch.zeros(1))
        self.fc2 = NormedLinear(2 * dim, dim)
        distances = None if grid_side is None else relative_distances(dim, grid_side, reduction)
        self.register_buffer("relative_pos", distances)

    def projection(self) -> nn.Linear:
        """The last linear map."""
        return self.fc2

    def mix(self, x_BHWC: torch.Tensor) -> torch.Tensor:
        """Positions and their neighbours, after the convolution."""
        x_BHWC = self.fc1(x_BHWC)
        B, H, W, C = x_BHWC.shape
        x_BNC, y_BMC = x_BHWC.flatten(1, 2), x_BHWC.flatten(1, 2)
        if self.reduction > 1:
            y_BMC = F.avg_pool2d(x_BHWC.permute(0, 3, 1, 2), self.reduction).flatten(2).transpose(1, 2)
        chosen_BNk = self._chosen(x_BNC, y_BMC, self._distances(H * W))
        first_B11 = torch.arange(B, device=chosen_BNk.device).view(-1, 1, 1) * y_BMC.shape[1]
        neighbours_BNkC = y_BMC.reshape(-1, C)[chosen_BNk + first_B11]
        if self.conv == "gin" and is_exporting():  # the nearest, where it is given again, counts once
            again_BNk1 = F.pad(chosen_BNk[..., 1:] == chosen_BNk[..., :1], (1, 0))[..., None]
            neighbours_BNkC = neighbours_BNkC.masked_fill(again_BNk1, 0)
        return unflattened(CONVOLUTIONS[self.conv](self, x_BNC, neighbours_BNkC), 1, (H, W))

    def _chosen(self, x_BNC: torch.Tensor, y_BMC: torch.Tensor, added_1NM: torch.Tensor | None) -> torch.Tensor:
        """(B, N, k)."""
        if not (self.training and self.stochastic and torch.rand(()) < self.stochastic):
            return nearest_neighbours(x_BNC, y_BMC, self.num_neighbours, self.dilation, added_1NM)
        near_BNk = nearest_neighbours(x_BNC, y_BMC, self.num_neighbours * self.dilation, 1, added_1NM)
        return near_BNk[..., torch.randperm(near_BNk.shape[-1], device=near_BNk.device)[: self.num_neighbours]]

    def _distances(self, num_positions: int) -> torch.Tensor | None:
        """(1, N, M): the table is resampled as if it were a picture, as the official code does."""
        table_1NM = self.relative_pos
        if table_1NM is None or is_of_size(table_1NM.shape[1:2], [num_positions]):
            return table_1NM
        size = (num_positions, num_positions // self.reduction**2)
        return F.interpolate(table_1NM[None], size, mode="bicubic")[0]


@torch.no_grad()
def nearest_neighbours(
    x_BNC: torch.Tensor, y_BMC: torch.Tensor, num_neighbours: int, dilation: int, added_1NM: torch.Tensor | None = None
) -> torch.Tensor:
    """(B, N, k) the places of those of `y` that are most alike, by the distance of vectors of length 1, nearest first.

    Args:
        x_BNC: the positions that look.
        y_BMC: those that may be seen.
        num_neighbours: k; less where there are fewer.
        dilation: every so many of the nearest k * dilation are given.
        added_1NM: added to the squared distances.
    """
    exact = torch.float64 if x_BNC.dtype == torch.float64 else torch.float32
    with without_autocast(x_BNC):
        x_BNC, y_BMC = (F.normalize(each.to(exact), dim=-1) for each in (x_BNC, y_BMC))
        x_square, y_square = (each.square().sum(dim=-1) for each in (x_BNC, y_BMC))
        distances_BNM = x_square[:, :, None] - 2 * x_BNC @ y_BMC.transpose(1, 2) + y_square[:, None]
        if added_1NM is not None:
            distances_BNM = distances_BNM + added_1NM.to(exact)
        number = num_neighbours * dilation
        if is_exporting():  # there are always enough: where not, the nearest is given again
            more_BNM = torch.full_like(distances_BNM[..., :1], torch.inf).expand(-1, -1, number)
            chosen_BNk = torch.cat([distances_BNM, more_BNM], dim=-1).topk(number, dim=-1, largest=False).indices
            chosen_BNk = torch.where(chosen_BNk < y_BMC.shape[1], chosen_BNk, chosen_BNk[..., :1])
        else:
            chosen_BNk = (-distances_BNM).topk(min(number, y_BMC.shape[1]), dim=-1).indices
        return chosen_BNk[..., ::dilation]


def relative_distances(dim: int, side: int, reduction: int = 1) -> torch.Tensor:
    """(1, N, M): minus 2 / dim times the product of the sinusoids of two places of a square grid.

    Args:
        dim: channels of the sinusoids, half of them for columns and half for rows; a multiple of 4.
        side: of the grid; N = side^2.
        reduction: M = N / reduction^2 columns, by bicubic interpolation.
    """
    frequency = 10_000.0 ** -(torch.arange(dim // 4, dtype=torch.float64) / (dim / 4))
    angle = torch.arange(side, dtype=torch.float64)[:, None] * frequency
    along = torch.cat([angle.sin(), angle.cos()], dim=1)
    products = along @ along.T  # of two rows, or of two columns
    table_NN = products[:, None, :, None] + products[None, :, None, :]
    table_NN = (2 * table_NN / dim).view(1, 1, side**2, side**2).float()
    size = (side**2, side**2 // reduction**2)
    return -F.interpolate(table_NN, size, mode="bicubic", align_corners=False)[0]
