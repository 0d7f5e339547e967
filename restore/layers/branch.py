"""What mixers and feed-forward networks have in common: an inner computation, and an output projection after it.

A norm may stand between the two (Sub-LN), and the projection is where float16 overflows, so both are applied here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

import torch
from torch import nn

from restore.layers.arguments import require_positive
from restore.layers.folding import scale_weights
from restore.layers.normed_linear import NormedLinear
from restore.layers.precision import add_branch

__all__ = ["Branch"]

_MATRICES = {"qkv": (False, False, True), "qk": (False, False), "kv": (False, True), "q": (False,), "k": (False,)}


class Branch(nn.Module):
    """Base of what stands in the slots of a block.

    Args:
        dim: channels of what comes in and goes out.
        inner_dim: channels before the output projection; `dim` when None.
        halo_px: how far information may travel along the map in one application; None when it may reach anywhere.

    Attributes:
        inner_norm: a norm of `inner_dim` channels before the output projection, or None; the placement of a block
            sets it.
        side_by_side: layers whose outputs are several maps side by side, and how many: `{"qkv": 3}`. With what is said
            here, the first channels of each layer make a narrower component of the same kind (see
            `restore.networks.elastic`); None where they do not.
        chooses: whether it chooses among what it sees (neighbours, centres, buckets), so that rounding may decide
            between two that are almost alike.

    Raises:
        ValueError: a number that is not above zero (`halo_px`: below zero).
    """

    inner_norm: nn.Module | None
    side_by_side: ClassVar[Mapping[str, int] | None] = None
    chooses: ClassVar[bool] = False

    def __init__(self, dim: int, inner_dim: int | None = None, halo_px: int | None = 0):
        super().__init__()
        inner_dim = dim if inner_dim is None else inner_dim
        require_positive(dim=dim, inner_dim=inner_dim)
        if halo_px is not None and halo_px < 0:
            raise ValueError(f"halo_px is {halo_px}: 0 is for no neighbour, None for the whole map")
        self.dim, self.inner_dim, self.halo_px = dim, inner_dim, halo_px
        self.inner_norm = None

    def projection(self) -> nn.Linear | None:
        """The output projection: what is called `proj`, or what a subclass with other published names says."""
        return getattr(self, "proj", None)

    def project(self, inner: torch.Tensor) -> torch.Tensor:
        """(..., inner_dim) to (..., dim): the inner norm and the output projection, where there are such.

        Under float16 autocast the result of the projection is float32: see `restore.layers.precision`.
        """
        if self.inner_norm is not None:
            inner = self.inner_norm(inner)
        projection = self.projection()
        return inner if projection is None else add_branch(projection, inner)

    def scale_output(self, factor_C: torch.Tensor) -> bool:
        """Multiply each channel of what comes out by a factor, in the weights of the output projection.

        Returns:
            False, with nothing done, where there is no such projection.
        """
        projection = self.projection()
        if projection is None:
            return False
        scale_weights(projection.bn if isinstance(projection, NormedLinear) else projection, factor_C)
        return True

    def linear_maps(self) -> Iterator[tuple[torch.Tensor, bool]]:
        """The matrices of the linear maps of channels, and whether each is on the way of the values.

        Placements that initialise by depth (DeepNorm, Sub-LN) treat queries and keys, of which only the similarities
        count, apart from the others. They are told by name: `qkv`, `qk`, `kv`, `q`, `k`; a subclass that names them
        otherwise says here what they are.
        """
        for name, module in self._linear_modules():
            kinds = _MATRICES.get(name.rpartition(".")[2], (True,))
            for block in module.weight.flatten(1).chunk(getattr(module, "groups", 1)):
                yield from zip(block.chunk(len(kinds)), kinds, strict=True)

    def linear_biases(self) -> Iterator[torch.Tensor]:
        """The biases of the linear maps of channels."""
        yield from (module.bias for _, module in self._linear_modules() if module.bias is not None)

    def _linear_modules(self) -> Iterator[tuple[str, nn.Linear | nn.Conv2d]]:
        for name, module in self.named_modules():
            pointwise = isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1) and module.groups == 1
            if pointwise or isinstance(module, nn.Linear):
                yield name, module
