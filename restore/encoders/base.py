"""The contract of an encoder: an image of any size comes in, a list of maps comes out.

    @ENCODERS.add("my_encoder")
    class MyEncoder(Encoder):
        def __init__(self, in_chans: int = 3, out_indices: Sequence[int] | None = None, width: int = 64):
            super().__init__(in_chans, channels=(64, 128), strides=(4, 8), out_indices=out_indices, size_multiple=8)
            ...
        def maps(self, x_BCHW): ...     # every map, finest first; sides are multiples of `size_multiple`

`in_chans` and `out_indices` are arguments of every encoder; all others come from the option file and have defaults.
What remains is done here once: padding, cutting back to the size of the image, choosing maps, and saying what is wrong
with an input, or with the maps. `EncoderTester` in `tests/encoders` holds every registered encoder to this contract.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import nn

from restore.layers.arguments import require_positive
from restore.layers.padding import cut_tiles, pad_to_multiple, paste_tiles

__all__ = ["Encoder"]


class Encoder(nn.Module, ABC):
    """Base of all encoders. A subclass writes `maps`.

    Args:
        in_chans: channels of the image.
        channels: of every map that `maps` returns.
        strides: input pixels per position of each of these maps, ascending.
        out_indices: which of these maps `forward` returns, in this order; None for all. Negative ones count from the
            coarsest.
        size_multiple: `maps` is given images whose sides are multiples of this.
        tile_px: for encoders that take one size only: larger images are cut into squares of this side, which are
            encoded side by side. None for all others.

    Attributes:
        num_maps: how many maps there are to choose from.
        channels: of the maps that `forward` returns.
        strides: of the maps that `forward` returns.

    Raises:
        TypeError: a subclass whose constructor does not take `in_chans` and `out_indices`, when it is defined.
        ValueError: an index that no map has, or none at all; channels and strides that do not belong together.
    """

    def __init_subclass__(cls, **options):
        super().__init_subclass__(**options)
        missing = {"in_chans", "out_indices"} - {*inspect.signature(cls.__init__).parameters}
        if missing:
            raise TypeError(
                f"{cls.__name__}.__init__ does not take {' and '.join(sorted(missing))}: add "
                "`in_chans: int = 3, out_indices: Sequence[int] | None = None`, and give both to super().__init__"
            )

    def __init__(
        self,
        in_chans: int,
        *,
        channels: Sequence[int],
        strides: Sequence[int],
        out_indices: Sequence[int] | None = None,
        size_multiple: int = 1,
        tile_px: int | None = None,
    ):
        super().__init__()
        if len(channels) != len(strides) or list(strides) != sorted(strides):
            raise ValueError(f"one stride for each map, ascending: channels {channels}, strides {strides}")
        require_positive(in_chans=in_chans, channels=channels, strides=strides, size_multiple=size_multiple)
        self._declared = tuple(zip(channels, strides, strict=True))
        indices = range(len(channels)) if out_indices is None else out_indices
        if not indices:
            raise ValueError("out_indices is empty: name at least one map, or leave it out for all")
        wrong = [index for index in indices if not -len(channels) <= index < len(channels)]
        if wrong:
            raise ValueError(f"out_indices {wrong} do not exist: this encoder has {len(channels)} maps")
        self.num_maps = len(channels)
        self.out_indices = tuple(index % len(channels) for index in indices)
        self.channels = tuple(channels[index] for index in self.out_indices)
        self.strides = tuple(strides[index] for index in self.out_indices)
        self.in_chans, self.size_multiple, self.tile_px = in_chans, size_multiple, tile_px

    def forward(self, x_BCHW: torch.Tensor) -> list[torch.Tensor]:
        """Encode images of any size of at least one pixel.

        Returns:
            The chosen maps, (B, channels[i], ceil(H / strides[i]), ceil(W / strides[i])).

        Raises:
            ValueError: the input is empty, or does not have `in_chans` channels.
        """
        if x_BCHW.ndim != 4 or x_BCHW.shape[1] != self.in_chans or not all(x_BCHW.shape[2:]):
            raise ValueError(
                f"this encoder takes (B, {self.in_chans}, H, W) with sides of at least one pixel, "
                f"given {tuple(x_BCHW.shape)}"
            )
        padded = pad_to_multiple(x_BCHW, self.tile_px or self.size_multiple)
        maps = self._tiled(padded) if self.tile_px else self.maps(padded)
        self._check(maps, padded.shape)
        H, W = x_BCHW.shape[2:]
        chosen = [maps[index] for index in self.out_indices]
        return [
            each[:, :, : -(-H // stride), : -(-W // stride)] for each, stride in zip(chosen, self.strides, strict=True)
        ]

    @abstractmethod
    def maps(self, x_BCHW: torch.Tensor) -> list[torch.Tensor]:
        """Every map, (B, C_i, H / stride_i, W / stride_i), of an image whose size fits."""

    def _check(self, maps: Sequence[torch.Tensor], shape: Sequence[int]) -> None:
        """Maps are what the encoder declares: what comes out too large would be cut, and nobody would know."""
        B, _, H, W = shape
        declared = [(B, channels, -(-H // stride), -(-W // stride)) for channels, stride in self._declared]
        assert isinstance(maps, (list, tuple)), f"{type(self).__name__}.maps gave {type(maps).__name__}, not a list"
        found = [tuple(each.shape) for each in maps]
        assert found == declared, f"{type(self).__name__}.maps gave {found} where it declares {declared}"

    def _tiled(self, x_BCHW: torch.Tensor) -> list[torch.Tensor]:
        rows, columns = (side // self.tile_px for side in x_BCHW.shape[2:])
        return [paste_tiles(each, rows, columns) for each in self.maps(cut_tiles(x_BCHW, self.tile_px))]
