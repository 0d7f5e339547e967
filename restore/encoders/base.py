"""The contract of an encoder: an image of any size comes in, a list of maps comes out, and tokens where it has them.

    @ENCODERS.add("my_encoder", variants={"tiny": {"width": 32}})       # my_encoder, my_encoder_tiny
    class MyEncoder(Encoder):
        def __init__(self, in_chans: int = 3, out_indices: Sequence[int] | None = None,
                     normalisation: Normalisation = "symmetric", width: int = 64):
            super().__init__(in_chans, channels=(64, 128), strides=(4, 8), out_indices=out_indices, size_multiple=8,
                             normalisation=normalisation)
            ...
        def maps(self, x_BCHW): ...     # every map, finest first; sides are multiples of `size_multiple`

`in_chans`, `out_indices` and `normalisation` are arguments of every encoder; all others come from the option file and
have defaults. What remains is done here once: normalising, padding, cutting back to the size of the image, choosing
maps, and saying what is wrong with an input, or with the maps. Encoders of one stride whose blocks work on tokens have
a base of their own, in `restore.encoders.isotropic`. `EncoderTester` in `tests/encoders` holds every registered encoder
to this contract.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

import torch
from torch import nn

from restore.encoders.features import Features
from restore.encoders.heads import LinearHead
from restore.layers.arguments import require_positive
from restore.layers.exportable import ceil_divide
from restore.layers.padding import crop, cut_tiles, pad_to_multiple, paste_tiles
from restore.layers.tokens import Tokens

__all__ = ["HALF", "IMAGENET", "Encoder", "Features", "Normalisation", "Statistics"]

Normalisation = Literal["symmetric", "imagenet", "weights"]
"""How an encoder moves the values of an image in [0, 1]: to [-1, 1]; by the mean and deviation of ImageNet; as its
published weights were trained."""

Statistics = tuple[Sequence[float], Sequence[float]]
"""Mean and standard deviation of red, green and blue in [0, 1]."""

IMAGENET: Statistics = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF: Statistics = ((0.5,) * 3, (0.5,) * 3)  # to [-1, 1]


class Encoder(nn.Module, ABC):
    """Base of all encoders. A subclass writes `maps`, and `features` where it has tokens.

    Args:
        in_chans: channels of the image.
        channels: of every map that `maps` returns.
        strides: input pixels per position of each of these maps, ascending.
        out_indices: which of these maps `forward` returns, in this order; None for `default_indices`. Negative ones
            count from the coarsest.
        size_multiple: `maps` is given images whose sides are multiples of this.
        tile_px: for encoders that take no larger image than this: larger ones are cut into equal tiles, which are
            encoded side by side, each side the smallest multiple of `size_multiple` that will do. An encoder that takes
            one size only says it in both. None for all others.
        normalisation: how values in [0, 1] are moved before `maps`: "symmetric" 2x - 1, "imagenet" (x - mean) /
            deviation, "weights" as `weights_statistics` says.
        weights_statistics: what the published weights of this encoder were trained with; None: it has none.
        default_indices: the maps where `out_indices` is None; None for all.

    Attributes:
        num_maps: how many maps there are to choose from.
        channels: of the maps that `forward` returns.
        strides: of the maps that `forward` returns.

    Raises:
        TypeError: a subclass whose constructor does not take `in_chans` and `out_indices`, when it is defined.
        ValueError: an index that no map has, or none at all; channels and strides that do not belong together;
            normalisation as the weights want it where there are none.
    """

    _mean: torch.Tensor | None
    _deviation: torch.Tensor
    derived_keys: ClassVar[tuple[str, ...]] = ()
    """Last parts of published keys that hold nothing learned and need not be here (tables of indices, masks)."""

    def __init_subclass__(cls, **options: Any) -> None:
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
        normalisation: Normalisation = "symmetric",
        weights_statistics: Statistics | None = None,
        default_indices: Sequence[int] | None = None,
    ):
        super().__init__()
        if len(channels) != len(strides) or list(strides) != sorted(strides):
            raise ValueError(f"one stride for each map, ascending: channels {channels}, strides {strides}")
        require_positive(in_chans=in_chans, channels=channels, strides=strides, size_multiple=size_multiple)
        self._declared = tuple(zip(channels, strides, strict=True))
        usual = range(len(channels)) if default_indices is None else default_indices
        indices = usual if out_indices is None else out_indices
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
        self.normalisation, self.maps_only = normalisation, False
        statistics = _statistics(normalisation, weights_statistics)
        mean, deviation = (None, None) if statistics is None else (_by_channel(each, in_chans) for each in statistics)
        self.register_buffer("_mean", mean, persistent=False)
        self.register_buffer("_deviation", deviation, persistent=False)

    def forward(self, x_BCHW: torch.Tensor) -> list[torch.Tensor]:
        """Encode images in [0, 1], of any size of at least one pixel.

        Returns:
            The chosen maps, (B, channels[i], ceil(H / strides[i]), ceil(W / strides[i])).

        Raises:
            ValueError: the input is empty, or does not have `in_chans` channels.
        """
        return self._encoded(x_BCHW, lambda image: Features(self.maps(image)), self.out_indices).maps

    def encode(self, x_BCHW: torch.Tensor) -> Features:
        """The chosen maps, as `forward` gives them, and the tokens."""
        return self._with_tokens(x_BCHW, self.out_indices)

    def encode_all(self, x_BCHW: torch.Tensor) -> Features:
        """Every map, chosen or not, and the tokens: what a classifier's head looks at."""
        return self._with_tokens(x_BCHW, range(self.num_maps))

    @abstractmethod
    def maps(self, x_BCHW: torch.Tensor) -> list[torch.Tensor]:
        """Every map, (B, C_i, H / stride_i, W / stride_i), of a normalised image whose size fits."""

    def features(self, x_BCHW: torch.Tensor) -> Features:
        """The maps, and the tokens where there are any, of a normalised image whose size fits."""
        return Features(self.maps(x_BCHW))

    def blocks(self) -> Sequence[nn.Module]:
        """The blocks in the order in which they run: for checkpointing, layer-wise decay, token reduction, search.

        These are the direct children, where a list counts as its members; encoders of another build say so. What
        stands before the first block (a stem) and after the last (a norm) is in none where `blocks` leaves it out.
        """
        lists = (nn.ModuleList, nn.Sequential)
        return [each for child in self.children() for each in (child if isinstance(child, lists) else [child])]

    def head(self, num_classes: int) -> nn.Module:
        """A classifier's head for this encoder: `Features` of `encode_all` to logits (B, num_classes).

        Parameters have the keys of the published classifier, none of which is also a key of the encoder.
        """
        return LinearHead(self._declared[-1][0], num_classes)

    def published_key(self, key: str) -> str:
        """The name that published weights give to the state-dict key `key` of this encoder.

        Published lists called `blocks` are called `stack` here, as `blocks` is a method.
        """
        return f"blocks{key.removeprefix('stack')}" if key.startswith("stack.") else key

    def fitted(self, state: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
        """Published weights as they are, or this network's part of those of a larger one."""
        return state

    def prune_to_maps(self) -> None:
        """Remove what no chosen map depends on, such as a last norm, for a network that looks at maps alone.

        Such parameters would never get a gradient. Only `forward` can be called from then on. This does nothing where
        all depends on all; encoders of another build remove it and call this.
        """
        self.maps_only = True

    def keep_maps(self) -> int:
        """Declare the maps up to the last chosen one alone, for `prune_to_maps`; returns how many these are."""
        self.num_maps = max(self.out_indices) + 1
        self._declared = self._declared[: self.num_maps]
        return self.num_maps

    def normalise(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """Values in [0, 1] as this encoder wants them."""
        return 2 * x_BCHW - 1 if self._mean is None else (x_BCHW - self._mean) / self._deviation

    def _with_tokens(self, x_BCHW: torch.Tensor, indices: Sequence[int]) -> Features:
        assert not self.maps_only, "this encoder was built for its maps alone (maps_only)"
        return self._encoded(x_BCHW, self.features, indices)

    def tile_side(self, side: int) -> int:
        """Of the tiles that an image of this side is cut into."""
        assert self.tile_px is not None, "this encoder takes images of any size whole"
        num_tiles = ceil_divide(side, self.tile_px)
        return ceil_divide(side, num_tiles * self.size_multiple) * self.size_multiple

    def _encoded(
        self, x_BCHW: torch.Tensor, features: Callable[[torch.Tensor], Features], indices: Sequence[int]
    ) -> Features:
        if x_BCHW.ndim != 4 or x_BCHW.shape[1] != self.in_chans or not all(x_BCHW.shape[2:]):
            raise ValueError(
                f"this encoder takes (B, {self.in_chans}, H, W) with sides of at least one pixel, "
                f"given {tuple(x_BCHW.shape)}"
            )
        size = x_BCHW.shape[2:]
        tile = (self.tile_side(size[0]), self.tile_side(size[1])) if self.tile_px else None
        padded = pad_to_multiple(self.normalise(x_BCHW), tile or self.size_multiple)
        found = self._tiled(padded, tile, features) if tile else features(padded)
        self._check(found.maps, padded.shape)
        maps = [_cut(found.maps[index], size, self._declared[index][1]) for index in indices]
        tokens = found.tokens
        if tokens is not None and tokens.grid is not None:
            tokens = _cut_tokens(tokens, size, padded.shape[2:])
        return replace(found, maps=maps, tokens=tokens)

    def _check(self, maps: Sequence[torch.Tensor], shape: Sequence[int]) -> None:
        """Maps are what the encoder declares: what comes out too large would be cut, and nobody would know."""
        B, _, H, W = shape
        declared = [
            (B, channels, ceil_divide(H, stride), ceil_divide(W, stride)) for channels, stride in self._declared
        ]
        assert isinstance(maps, (list, tuple)), f"{type(self).__name__}.maps gave {type(maps).__name__}, not a list"
        found = [tuple(each.shape) for each in maps]
        assert found == declared, f"{type(self).__name__}.maps gave {found} where it declares {declared}"

    def _tiled(
        self, x_BCHW: torch.Tensor, tile: tuple[int, int], features: Callable[[torch.Tensor], Features]
    ) -> Features:
        """Tiles side by side; their patch tokens lie on one grid, their class tokens are averaged."""
        rows, columns = (side // part for side, part in zip(x_BCHW.shape[2:], tile, strict=True))
        found = features(cut_tiles(x_BCHW, tile))
        tokens = found.tokens
        if tokens is not None and rows * columns > 1:
            prefix_BNC = tokens.prefix_BNC.unflatten(0, (-1, rows * columns)).mean(dim=1)
            tokens = tokens.with_values(prefix_BNC).with_map(paste_tiles(tokens.map_BCHW(), rows, columns))
        return replace(found, maps=[paste_tiles(each, rows, columns) for each in found.maps], tokens=tokens)


def _statistics(normalisation: Normalisation, of_weights: Statistics | None) -> Statistics | None:
    """Mean and deviation to normalise with; None for 2x - 1."""
    if normalisation == "weights":
        if of_weights is None:
            raise ValueError("normalisation is 'weights', but this encoder has none: write symmetric or imagenet")
        return None if (tuple(of_weights[0]), tuple(of_weights[1])) == HALF else of_weights
    return IMAGENET if normalisation == "imagenet" else None


def _by_channel(values_RGB: Sequence[float], in_chans: int) -> torch.Tensor:
    """(1, in_chans, 1, 1): the mean for grey, otherwise red, green and blue in turn, as timm repeats weights."""
    values = [sum(values_RGB) / 3] if in_chans == 1 else [values_RGB[channel % 3] for channel in range(in_chans)]
    return torch.tensor(values).view(1, -1, 1, 1)


def _cut(map_BCHW: torch.Tensor, size: Sequence[int], stride: int) -> torch.Tensor:
    """The part of a map that belongs to an image of this size."""
    height, width = size
    return crop(map_BCHW, ceil_divide(height, stride), ceil_divide(width, stride))


def _cut_tokens(tokens: Tokens, size: Sequence[int], padded: Sequence[int]) -> Tokens:
    """The tokens without the patches that hold only padding."""
    assert tokens.grid is not None
    height, width = (
        ceil_divide(side * places, whole) for side, places, whole in zip(size, tokens.grid, padded, strict=True)
    )
    if (height, width) == tuple(tokens.grid):
        return tokens
    return tokens.with_map(tokens.map_BCHW()[:, :, :height, :width])
