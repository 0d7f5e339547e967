"""Sets of tokens: what mixers and encoders without a grid work on, and how they lie on the image where they do."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

__all__ = ["Tokens"]


@dataclass(frozen=True)
class Tokens:
    """Tokens of each image of a batch.

    Attributes:
        x_BNC: class and distillation tokens first, then the patch tokens, row by row.
        grid: rows and columns of the patch tokens, where they still lie on a grid.
        num_prefix: how many tokens stand before the patch tokens.
        weight_BN: how many original tokens each stands for, after merging; None: one.
    """

    x_BNC: torch.Tensor
    grid: tuple[int, int] | None = None
    num_prefix: int = 0
    weight_BN: torch.Tensor | None = None

    @property
    def prefix_BNC(self) -> torch.Tensor:
        """The class and distillation tokens."""
        return self.x_BNC[:, : self.num_prefix]

    @property
    def patches_BNC(self) -> torch.Tensor:
        """The patch tokens."""
        return self.x_BNC[:, self.num_prefix :]

    def map_BCHW(self) -> torch.Tensor:
        """The patch tokens as a map.

        Raises:
            AssertionError: they lie on no grid.
        """
        assert self.grid is not None, "these tokens lie on no grid"
        return self.patches_BNC.transpose(1, 2).unflatten(2, self.grid)

    def with_map(self, map_BCHW: torch.Tensor) -> Tokens:
        """The same prefix before the positions of another map."""
        patches_BNC = map_BCHW.flatten(2).transpose(1, 2)
        x_BNC = torch.cat([self.prefix_BNC, patches_BNC], dim=1) if self.num_prefix else patches_BNC
        return replace(self, x_BNC=x_BNC, grid=tuple(map_BCHW.shape[2:]), weight_BN=None)
