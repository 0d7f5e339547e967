"""The contract of a mixer: a map comes in, a map of the same shape goes out.

    @MIXERS.add("my_mixer")
    class MyMixer(Mixer):
        def __init__(self, dim: int, kernel_size: int = 7):
            super().__init__(dim, halo_px=kernel_size // 2)
            ...
            self.proj = nn.Linear(dim, dim)
        def mix(self, x_BHWC): ...      # before the output projection; leaves its input as it is

`dim` is an argument of every mixer and is given by the block; all others come from the option file and have defaults.
A mixer knows nothing of norms, residual sums or the feed-forward half: these are the block's. What is called `proj` is
the output projection, which the base applies (where published weights call it otherwise, `projection` says how); a
mixer without one returns what goes to the residual sum.

In evaluation a mixer is a function of its input and its state dict: random numbers that it needs are drawn once, and
kept in buffers. The shape of what `mix` returns is checked; `tests/layers/test_mixers.py` holds every registered mixer
to the rest of this contract: sizes, reach, gradients, precision, repeatability.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from typing import Any

import torch

from restore.layers.arguments import require_positive
from restore.layers.branch import Branch
from restore.layers.exportable import is_exporting, is_of_size, unflattened
from restore.layers.padding import cut_squares, pad_to_multiple, paste_squares
from restore.layers.tokens import Tokens

__all__ = ["Mixer", "TokenMixer"]


class Mixer(Branch, ABC):
    """Base of all mixers. A subclass writes `mix`.

    Args:
        dim: channels of the map.
        inner_dim: channels of what `mix` returns, before the output projection; `dim` when None.
        size_multiple: what height and width of the map are multiples of, one number or two; the network pads its input
            accordingly.
        grid_px: for mixers with parameters of a fixed size: `mix` sees squares of this side only. Maps of any size are
            reflected at the bottom and the right up to multiples of it, cut into squares, and joined again.
        halo_px: how far information may travel along the map in one application; None when it may reach anywhere.

    Attributes:
        size_multiple: rows and columns.
        halo_px: less than the side of the squares, if there are such.

    Raises:
        TypeError: a subclass whose constructor does not take `dim`, when it is defined.
        ValueError: a number that is not above zero (`halo_px`: below zero), or both `grid_px` and `size_multiple`.
    """

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "dim" not in inspect.signature(cls.__init__).parameters:
            raise TypeError(f"{cls.__name__}.__init__ does not take dim, the channels of the map: add `dim: int`")

    def __init__(
        self,
        dim: int,
        *,
        inner_dim: int | None = None,
        size_multiple: int | tuple[int, int] = 1,
        grid_px: int | None = None,
        halo_px: int | None = 0,
    ):
        multiples = (size_multiple,) * 2 if isinstance(size_multiple, int) else tuple(size_multiple)
        require_positive(size_multiple=multiples if multiples[0] != multiples[1] else multiples[0])
        if grid_px is not None:
            require_positive(grid_px=grid_px)
            if multiples != (1, 1):
                raise ValueError("a mixer has grid_px or size_multiple: with grid_px it takes maps of any size")
            halo_px = grid_px - 1 if halo_px is None else min(halo_px, grid_px - 1)
        super().__init__(dim, inner_dim, halo_px)
        self.size_multiple, self.grid_px = multiples, grid_px

    def forward(self, x: torch.Tensor | Tokens) -> torch.Tensor:
        """Mix the positions of a channels-last map `x_BHWC`; returns (B, H, W, C).

        Tokens that are all of a grid and stand for one patch each are taken too, and (B, N, C) is returned.

        Raises:
            ValueError: the sides of the map are not multiples of `size_multiple`, or tokens are no map.
        """
        if isinstance(x, Tokens):
            if x.num_prefix or x.weight_BN is not None:
                raise ValueError(
                    f"{type(self).__name__} mixes maps: it does not take tokens in front of the grid "
                    f"({x.num_prefix} given) or merged ones; a mixer that does is derived from TokenMixer"
                )
            return self(x.map_BHWC()).flatten(1, 2)
        return self.project(self._mixed(x))

    def _mixed(self, x_BHWC: torch.Tensor) -> torch.Tensor:
        if self.grid_px is None:
            self._check_size(*x_BHWC.shape[1:3])
            return self._checked(self.mix(x_BHWC), x_BHWC)
        _, H, W, _ = x_BHWC.shape
        if is_of_size((H, W), (self.grid_px, self.grid_px)):
            return self._checked(self.mix(x_BHWC), x_BHWC)
        padded_BHWC = pad_to_multiple(x_BHWC.permute(0, 3, 1, 2), self.grid_px).permute(0, 2, 3, 1)
        squares_SHWC = cut_squares(padded_BHWC, self.grid_px)
        mixed_SHWC = self._checked(self.mix(squares_SHWC), squares_SHWC)
        return paste_squares(mixed_SHWC, *padded_BHWC.shape[1:3])[:, :H, :W]

    def _check_size(self, height: int, width: int) -> None:
        rows, columns = self.size_multiple
        if not is_exporting() and (height % rows or width % columns):
            wanted = rows if rows == columns else f"{rows} and {columns}"
            raise ValueError(
                f"{type(self).__name__} takes maps whose sides are multiples of {wanted}, given {height} x {width}; "
                "pad the image first"
            )

    def _checked(self, mixed: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """What is too small would be spread over the map by the residual sum, and nobody would know."""
        if not is_exporting():
            found = tuple(mixed.shape) if isinstance(mixed, torch.Tensor) else type(mixed).__name__
            wanted = (*x.shape[:-1], self.inner_dim)
            assert found == wanted, (
                f"{type(self).__name__}.mix made {found} of a map {tuple(x.shape)}, where it declares {wanted}"
            )
        return mixed

    @abstractmethod
    def mix(self, x_BHWC: torch.Tensor) -> torch.Tensor:
        """(B, H, W, inner_dim) of a map of a proper size, before the inner norm and the output projection."""


class TokenMixer(Mixer):
    """Base of mixers that work on sets of tokens, wherever these stand. A subclass writes `mix_tokens`.

    On maps there is one set for each image, or for each square where there is `grid_px`. Tokens with a prefix, without
    a grid or with weights are taken as they are.
    """

    def __init__(
        self,
        dim: int,
        *,
        inner_dim: int | None = None,
        size_multiple: int | tuple[int, int] = 1,
        grid_px: int | None = None,
        halo_px: int | None = None,
    ):
        super().__init__(dim, inner_dim=inner_dim, size_multiple=size_multiple, grid_px=grid_px, halo_px=halo_px)

    def forward(self, x: torch.Tensor | Tokens) -> torch.Tensor:
        """Mix a channels-last map `x_BHWC`, or a set of tokens; returns (B, H, W, C) or (B, N, C).

        Raises:
            ValueError: the sides of the map are not multiples of `size_multiple`, or a grid is not that of `grid_px`.
        """
        if not isinstance(x, Tokens):
            return super().forward(x)
        if self.grid_px is not None and x.grid != (self.grid_px, self.grid_px):
            raise ValueError(
                f"{type(self).__name__} has parameters for a grid of {self.grid_px} x {self.grid_px}, given tokens of "
                f"{x.grid or 'no grid'}"
            )
        return self.project(self._checked(self.mix_tokens(x), x.x_BNC))

    def mix(self, x_BHWC: torch.Tensor) -> torch.Tensor:
        """`mix_tokens` of the positions of the map."""
        return unflattened(self.mix_tokens(Tokens.of_map(x_BHWC)), 1, x_BHWC.shape[1:3])

    @abstractmethod
    def mix_tokens(self, tokens: Tokens) -> torch.Tensor:
        """(B, N, inner_dim), before the inner norm and the output projection."""
