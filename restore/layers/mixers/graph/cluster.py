"""Context clusters: points gather at the centre that they are most like, and take from it what it has gathered.

Ma et al. 2023, "Image as Set of Points", arXiv 2303.01494, section 3.2. Official code: github.com/ma-xu/Context-Cluster
(Apache-2.0). Checked against the official code.

Shape legend: R regions and heads of the whole batch, N points of a region, M centres, D channels of a head.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from restore.layers.arguments import require_positive
from restore.layers.exportable import adaptive_means, unflattened
from restore.layers.mixers.base import Mixer
from restore.layers.padding import cut_tiles, paste_tiles
from restore.registry import MIXERS

__all__ = ["ContextClusterMixer"]


@MIXERS.add("context_cluster")
class ContextClusterMixer(Mixer):
    """Each point belongs to one centre of its region: the one with the largest cosine, which also weighs it.

    Args:
        dim: channels of the map.
        num_heads: sets of channels that are clustered apart.
        head_dim: channels of a set.
        num_centres: rows, and columns, of the centres of a region, one number or two; they are means of the points
            around them.
        num_folds: rows, and columns, of the regions of the map, whose sides are multiples of them.
    """

    chooses = True

    def __init__(
        self,
        dim: int,
        num_heads: int = 4,
        head_dim: int = 24,
        num_centres: int | tuple[int, int] = 2,
        num_folds: int | tuple[int, int] = 1,
    ):
        centres, folds = (
            (each, each) if isinstance(each, int) else (each[0], each[1]) for each in (num_centres, num_folds)
        )
        require_positive(num_heads=num_heads, head_dim=head_dim, num_centres=num_centres, num_folds=num_folds)
        super().__init__(dim, inner_dim=num_heads * head_dim, size_multiple=folds, halo_px=None)
        self.num_heads, self.num_centres, self.num_folds = num_heads, centres, folds
        self.f, self.v = nn.Linear(dim, num_heads * head_dim), nn.Linear(dim, num_heads * head_dim)
        self.sim_alpha, self.sim_beta = nn.Parameter(torch.ones(1)), nn.Parameter(torch.zeros(1))
        self.proj = nn.Linear(num_heads * head_dim, dim)

    def mix(self, x_BHWC: torch.Tensor) -> torch.Tensor:
        """What each point takes from its centre."""
        B, H, W, _ = x_BHWC.shape
        size = (H // self.num_folds[0], W // self.num_folds[1])
        features_RDHW, values_RDHW = (self._regions(layer(x_BHWC), size) for layer in (self.f, self.v))
        centres_RMD, centre_values_RMD = (
            adaptive_means(each, self.num_centres).flatten(2).transpose(1, 2) for each in (features_RDHW, values_RDHW)
        )
        similarity_RMN = self.similarity(centres_RMD, features_RDHW.flatten(2).transpose(1, 2))
        gathered_RMD = similarity_RMN @ values_RDHW.flatten(2).transpose(1, 2) + centre_values_RMD
        gathered_RMD = gathered_RMD / (similarity_RMN.sum(dim=-1, keepdim=True) + 1)
        taken_RDN = gathered_RMD.transpose(1, 2) @ similarity_RMN
        taken_BDHW = paste_tiles(unflattened(taken_RDN, 2, size), *self.num_folds)
        return taken_BDHW.reshape(B, -1, H, W).permute(0, 2, 3, 1)

    def similarity(self, centres_RMD: torch.Tensor, points_RND: torch.Tensor) -> torch.Tensor:
        """(R, M, N) between 0 and 1 for the centre of each point, 0 for all others."""
        cosine_RMN = F.normalize(centres_RMD, dim=-1) @ F.normalize(points_RND, dim=-1).transpose(1, 2)
        similarity_RMN = torch.sigmoid(self.sim_beta + self.sim_alpha * cosine_RMN)
        largest_R1N, chosen_R1N = similarity_RMN.max(dim=1, keepdim=True)
        return torch.zeros_like(similarity_RMN).scatter(1, chosen_R1N, largest_R1N)

    def _regions(self, x_BHWC: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        heads_BDHW = x_BHWC.permute(0, 3, 1, 2).reshape(-1, self.inner_dim // self.num_heads, *x_BHWC.shape[1:3])
        return cut_tiles(heads_BDHW, size)
