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

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import nn

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
        channels: of the maps that `forward` returns.
        strides: of the maps that `forward` returns.

    Raises:
        ValueError: an index that no map has; channels and strides that do not belong together.
    """

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
        self._declared = tuple(zip(channels, strides, strict=True))
        indices = range(len(channels)) if out_indices is None else out_indices
        wrong = [index for index in indices if not -len(channels) <= index < len(channels)]
        if wrong:
            raise ValueError(f"out_indices {wrong} do not exist: this encoder has {len(channels)} maps")
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
        H, W = x_BCHW.shape[2:]
        if x_BCHW.shape[1] != self.in_chans or not H or not W:
            raise ValueError(
                f"this encoder takes (B, {self.in_chans}, H, W) with sides of at least one pixel, "
                f"given {tuple(x_BCHW.shape)}"
            )
        padded = pad_to_multiple(x_BCHW, self.tile_px or self.size_multiple)
        maps = self._tiled(padded) if self.tile_px else self.maps(padded)
        self._check(maps, *padded.shape[2:])
        chosen = [maps[index] for index in self.out_indices]
        return [
            each[:, :, : -(-H // stride), : -(-W // stride)] for each, stride in zip(chosen, self.strides, strict=True)
        ]

    @abstractmethod
    def maps(self, x_BCHW: torch.Tensor) -> list[torch.Tensor]:
        """Every map, (B, C_i, H / stride_i, W / stride_i), of an image whose size fits."""

    def _check(self, maps: Sequence[torch.Tensor], height: int, width: int) -> None:
        """Maps are what the encoder declares: what comes out too large would be cut, and nobody would know."""
        found = [tuple(each.shape[1:]) for each in maps]
        declared = [(channels, -(-height // stride), -(-width // stride)) for channels, stride in self._declared]
        assert found == declared, f"{type(self).__name__}.maps gave {found} where it declares {declared}"

    def _tiled(self, x_BCHW: torch.Tensor) -> list[torch.Tensor]:
        rows, columns = (side // self.tile_px for side in x_BCHW.shape[2:])
        return [paste_tiles(each, rows, columns) for each in self.maps(cut_tiles(x_BCHW, self.tile_px))]
