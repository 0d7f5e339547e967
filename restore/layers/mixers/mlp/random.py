"""Random mixing: positions are mixed by a matrix that is drawn once and never learned.

RandFormer of MetaFormer Baselines, Yu et al. 2022, arXiv 2210.13452, section 3.1, whose key is kept. Official code:
github.com/sail-sg/metaformer (Apache-2.0). Checked against closed forms.
"""

from __future__ import annotations

import torch

from restore.layers.mixers.base import Mixer
from restore.registry import MIXERS

__all__ = ["RandomMixing"]


@MIXERS.add("random")
class RandomMixing(Mixer):
    """Means of the positions of each square of the map, by weights that are positive, sum to 1 and were drawn.

    Args:
        dim: channels of the map.
        grid_px: side of the squares that the matrix is made for.

    Attributes:
        random_matrix: (grid_px^2, grid_px^2), a buffer.
    """

    random_matrix: torch.Tensor

    def __init__(self, dim: int, grid_px: int = 14):
        super().__init__(dim, grid_px=grid_px, halo_px=None)
        self.register_buffer("random_matrix", torch.rand(grid_px**2, grid_px**2).softmax(dim=-1))

    def mix(self, x_BHWC: torch.Tensor) -> torch.Tensor:
        """The means."""
        return (self.random_matrix @ x_BHWC.flatten(1, 2)).view(x_BHWC.shape)
