"""Sets of tokens: what mixers and encoders without a grid work on, and how they lie on the image where they do."""

from __future__ import annotations

from typing import NamedTuple, TypeVar, cast

import torch

from restore.layers.exportable import unflattened

__all__ = ["Tokens", "Values", "values_of", "with_values"]


class Tokens(NamedTuple):
    """Tokens of each image of a batch; a tuple, so that what wraps modules (sharding, export) finds the tensors in it.

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

    @classmethod
    def of_map(cls, x_BHWC: torch.Tensor) -> Tokens:
        """The positions of a channels-last map."""
        return cls(x_BHWC.flatten(1, 2), (x_BHWC.shape[1], x_BHWC.shape[2]))

    @property
    def prefix_BNC(self) -> torch.Tensor:
        """The class and distillation tokens."""
        return self.x_BNC[:, : self.num_prefix]

    @property
    def patches_BNC(self) -> torch.Tensor:
        """The patch tokens."""
        return self.x_BNC[:, self.num_prefix :]

    def with_values(self, x_BNC: torch.Tensor) -> Tokens:
        """Other numbers in the same arrangement."""
        return self._replace(x_BNC=x_BNC)

    def map_BCHW(self) -> torch.Tensor:
        """The patch tokens as a map.

        Raises:
            ValueError: they do not lie on a grid (any more).
        """
        return self.map_BHWC().permute(0, 3, 1, 2)

    def map_BHWC(self) -> torch.Tensor:
        """The patch tokens as a channels-last map; raises as `map_BCHW` does."""
        if self.grid is None:
            raise ValueError(
                f"these {self.x_BNC.shape[1]} tokens do not lie on a grid, so they are no map: what needs a map stands "
                "before tokens are merged or left out"
            )
        return unflattened(self.patches_BNC, 1, self.grid)

    def with_map(self, map_BCHW: torch.Tensor) -> Tokens:
        """The same prefix before the positions of another map."""
        patches_BNC = map_BCHW.flatten(2).transpose(1, 2)
        x_BNC = torch.cat([self.prefix_BNC, patches_BNC], dim=1) if self.num_prefix else patches_BNC
        rows, columns = map_BCHW.shape[2:]
        return self._replace(x_BNC=x_BNC, grid=(rows, columns), weight_BN=None)


Values = TypeVar("Values", bound="torch.Tensor | Tokens")


def values_of(x: torch.Tensor | Tokens) -> torch.Tensor:
    """The numbers of a map or of a set of tokens, channels last."""
    return x.x_BNC if isinstance(x, Tokens) else x


def with_values(x: Values, values: torch.Tensor) -> Values:
    """Other numbers in the arrangement of `x`."""
    return cast(Values, x.with_values(values) if isinstance(x, Tokens) else values)
