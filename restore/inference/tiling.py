"""Where the tiles of an image lie and how much each of them counts: the tiling policies, published and ours, by name.

A policy cuts each side of an image on its own, so a plan is two `Axis` objects, and the weight of a tile at a pixel is
the product of two numbers. The weights of the tiles over a position sum to one; that is all there is to know about a
policy, so one engine (`restore.inference.bands`) runs them all, in one pass and without a divisor.

    blend          ours: the fewest equal tiles, cosine cross-fade in the middle half of each overlap
    swinir_script  SwinIR's main_test_swinir.py (also EDT's): square tiles, overlap 32, plain average of whole tiles
    ipt_chop       IPT's forward_chop: 48 px tiles every 12 px, mean of their central 24 px, last 48 px completed apart
    square128      Uformer's test scripts: the image in the centre of a square whose side is a multiple of 128, no tiles
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from restore.errors import OptionsError, nearest

__all__ = ["TILING_POLICIES", "Axis", "Plan", "TilingPolicy", "blend_axis", "chop_axis", "script_axis", "tiling_policy"]

FADE_STEPS = 1 << 16  # fades are multiples of 1/65536, which float32 adds without rounding: they sum to exactly 1


@dataclass(frozen=True)
class Axis:
    """The tiles along one side of an image.

    Attributes:
        tile_px: side of every tile, in input pixels.
        starts: first input pixel of each tile, ascending.
        weights: (tiles, tile_px * scale) float32, how much each output pixel of a tile counts; at every output position
            the weights of the tiles over it sum to one.
    """

    tile_px: int
    starts: tuple[int, ...]
    weights: np.ndarray

    @property
    def size_px(self) -> int:
        """Length of the side, in input pixels."""
        return self.starts[-1] + self.tile_px


@dataclass(frozen=True)
class Plan:
    """The tiles of an image: those of its height times those of its width."""

    tall: Axis
    wide: Axis

    def weights(self, row: int, column: int) -> np.ndarray:
        """How much each output pixel of a tile counts, (height, width) float32."""
        return np.outer(self.tall.weights[row], self.wide.weights[column])


@dataclass(frozen=True)
class ChopPlan(Plan):
    """IPT's tiles, with an irregularity of its script: one corner of the image comes from the first tile alone.

    Attributes:
        corner: height and width of that corner, in output pixels.
    """

    corner: tuple[int, int]

    def weights(self, row: int, column: int) -> np.ndarray:
        """How much each output pixel of a tile counts, (height, width) float32."""
        weights = super().weights(row, column)
        if row == 0:
            scale = weights.shape[1] // self.wide.tile_px
            inside = max(self.corner[1] - self.wide.starts[column] * scale, 0)
            weights[: self.corner[0], :inside] = column == 0
        return weights


@dataclass(frozen=True)
class TilingPolicy:
    """A named way to cut images into tiles and to join them again.

    Attributes:
        name: as options and command lines write it.
        plan: `(height_px, width_px, tile_px, overlap_px, multiple, scale) -> Plan`.
        padding: padding policy that belongs to it; None leaves the choice to the network.
        tile_px: the only tile side it has; None where the caller chooses.
        min_px: images are padded up to this side.
        tiled: False: the image always goes through the network in one piece.
        fits_windows: whether it makes any tile fit the network's windows, and any overlap the tile.
    """

    name: str
    plan: Callable[[int, int, int, int, int, int], Plan]
    padding: str | None = None
    tile_px: int | None = None
    min_px: int = 1
    tiled: bool = True
    fits_windows: bool = True

    def check(self, tile: int | str | None, overlap_px: int, multiple: int) -> None:
        """Refuse settings that do not go together, before there is an image.

        Args:
            tile: the side that was asked for; None for whole images, "auto" for any.
            overlap_px: of neighbouring tiles.
            multiple: of the network's windows.

        Raises:
            OptionsError: says which setting does not fit, and what does.
        """
        if not isinstance(tile, int):
            return
        if not self.tiled:
            raise OptionsError(f"tile is {tile}: {self.name} takes whole images. Leave the tile out, or take blend.")
        if self.tile_px and tile != self.tile_px:
            raise OptionsError(f"tile is {tile}: {self.name} has {self.tile_px} px. Leave it out, or take blend.")
        if not self.fits_windows and tile % multiple:
            raise OptionsError(f"tile is {tile}: {self.name} takes multiples of the network's window, {multiple}.")
        if not self.fits_windows and overlap_px >= tile:
            raise OptionsError(f"tile_overlap is {overlap_px}: it has to be smaller than the tile, {tile}.")


def tiling_policy(name: str) -> TilingPolicy:
    """The policy of this name.

    Raises:
        OptionsError: there is none.
    """
    if name not in TILING_POLICIES:
        raise OptionsError(
            f"unknown tiling policy '{name}'.{nearest(name, TILING_POLICIES)} Known: {', '.join(TILING_POLICIES)}."
        )
    return TILING_POLICIES[name]


def blend_axis(size_px: int, tile_px: int, overlap_px: int, multiple: int = 1, scale: int = 1) -> Axis:
    """As few tiles as `tile_px` allows, shrunk and spread so that neighbours overlap by little more than asked for.

    Tiles and starts are multiples of `multiple` where `size_px` is one, so windows fall where they would without
    tiles. Across the middle half of an overlap one tile fades into the next along a cosine; the outer quarters, where a
    tile lacks its surroundings, do not count at all.
    """
    multiple = math.gcd(multiple, size_px)
    tile_px = min(max(tile_px // multiple, 1) * multiple, size_px)
    overlap_px = min(_round_up(overlap_px, multiple), tile_px // 2 // multiple * multiple)
    count = 1 if tile_px >= size_px else math.ceil((size_px - overlap_px) / (tile_px - overlap_px))
    tile_px = min(tile_px, _round_up(math.ceil((size_px + (count - 1) * overlap_px) / count), multiple))
    room = size_px - tile_px
    starts = tuple(i * room // max(count - 1, 1) // multiple * multiple for i in range(count))

    position = np.arange(size_px * scale) + 0.5
    shares = [np.ones_like(position)]  # the share of tile i and all after it, for each i
    for left, right in itertools.pairwise(starts):
        width = min((left + tile_px - right) / 2, overlap_px, right - left) * scale
        centre = (left + tile_px + right) / 2 * scale
        shares.append(_fade(position, centre, width))
    shares.append(np.zeros_like(position))
    return _axis(tile_px, starts, [mine - later for mine, later in itertools.pairwise(shares)], scale)


def script_axis(size_px: int, tile_px: int, overlap_px: int, scale: int = 1) -> Axis:
    """Tiles every `tile_px - overlap_px` pixels, the last one flush with the end; each pixel is their plain mean.

    Raises:
        OptionsError: the overlap leaves no step.
    """
    step = tile_px - overlap_px
    if step < 1:
        raise OptionsError(f"tile_overlap is {overlap_px}: it has to be smaller than the tile, {tile_px}.")
    starts = (*range(0, size_px - tile_px, step), size_px - tile_px)
    covers = [_box(size_px, scale, start, start + tile_px) for start in starts]
    return _axis(tile_px, starts, _normalised(covers), scale)


def chop_axis(size_px: int, tile_px: int = 48, scale: int = 1) -> Axis:
    """IPT's rule along one side: tiles every quarter tile, of which the central half counts, averaged.

    The first tile also gives the start of the image. From half a tile before the end (plus half of what the grid of
    quarters leaves over) everything comes from one last tile, flush with the end.
    """
    if size_px < tile_px:
        raise OptionsError(f"ipt_chop needs at least {tile_px} px, given {size_px}.")
    step = tile_px // 4
    left_over = (size_px - tile_px) % step
    grid = list(range(0, size_px - tile_px + 1, step))
    covers = [_box(size_px, scale, start + step if start else 0, start + 3 * step) for start in grid]
    covers[-1] = _box(size_px, scale, grid[-1] + step if grid[-1] else 0, size_px)
    weights = _normalised(covers)

    last_from = _last_tile_from(size_px, tile_px, scale)
    for weight in weights:
        weight[last_from:] = 0
    if left_over:
        grid.append(size_px - tile_px)
        weights.append(np.zeros(size_px * scale))
    weights[-1][last_from:] = 1
    return _axis(tile_px, tuple(grid), weights, scale)


def _blend(height: int, width: int, tile: int, overlap: int, multiple: int, scale: int) -> Plan:
    tall, wide = (blend_axis(size, tile, overlap, multiple, scale) for size in (height, width))
    return Plan(tall, wide)


def _script(height: int, width: int, tile: int, overlap: int, multiple: int, scale: int) -> Plan:
    asked, tile = tile, min(tile, height, width)
    if tile % multiple:
        raise OptionsError(f"tile is {tile}: swinir_script takes multiples of the network's window, {multiple}.")
    if tile < asked:  # the published script fails on images no larger than the overlap
        overlap = min(overlap, tile // 2)
    return Plan(script_axis(height, tile, overlap, scale), script_axis(width, tile, overlap, scale))


def _chop(height: int, width: int, tile: int, overlap: int, multiple: int, scale: int) -> Plan:
    corner = tile // 4 * scale, min(tile * scale, _last_tile_from(width, tile, scale))
    return ChopPlan(chop_axis(height, tile, scale), chop_axis(width, tile, scale), corner)


TILING_POLICIES = {
    policy.name: policy
    for policy in (
        TilingPolicy("blend", _blend),
        TilingPolicy("swinir_script", _script, padding="flip", fits_windows=False),
        TilingPolicy("ipt_chop", _chop, tile_px=48, min_px=48),
        TilingPolicy("square128", _blend, padding="square128", tiled=False),
    )
}


def _last_tile_from(size_px: int, tile_px: int, scale: int) -> int:
    """First output position that IPT's script takes from the last tile alone."""
    left_over = (size_px - tile_px) % (tile_px // 4)
    return (size_px - left_over) * scale - int((tile_px - left_over) / 2 * scale)


def _axis(tile_px: int, starts: tuple[int, ...], weights: list[np.ndarray], scale: int) -> Axis:
    cut = [weight[start * scale : (start + tile_px) * scale] for start, weight in zip(starts, weights, strict=True)]
    return Axis(tile_px, starts, np.stack(cut).astype(np.float32))


def _box(size_px: int, scale: int, start_px: int, stop_px: int) -> np.ndarray:
    cover = np.zeros(size_px * scale)
    cover[start_px * scale : stop_px * scale] = 1
    return cover


def _normalised(covers: list[np.ndarray]) -> list[np.ndarray]:
    total = np.sum(covers, axis=0)
    return [cover / np.maximum(total, 1) for cover in covers]


def _fade(position: np.ndarray, centre: float, width: float) -> np.ndarray:
    """0 before `centre - width / 2`, 1 after `centre + width / 2`, a cosine between."""
    if width <= 0:
        return (position >= centre).astype(float)
    ramp = np.clip((position - centre) / width + 0.5, 0, 1)
    return np.round((0.5 - 0.5 * np.cos(np.pi * ramp)) * FADE_STEPS) / FADE_STEPS


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


def whole_number_or_auto(name: str, value: int | str) -> int | Literal["auto"]:
    """`value` of the argument `name`: auto, or a whole number of at least 1.

    Raises:
        OptionsError: it is neither.
    """
    return "auto" if value == "auto" else whole_number(name, value, "auto and ")


def whole_number(name: str, value: object, also: str, smallest: int = 1) -> int:
    """`value` of the argument `name`, a whole number.

    Raises:
        OptionsError: it is none, or less than `smallest`; `also` is what else is allowed.
    """
    if not isinstance(value, int) or value < smallest:
        raise OptionsError(f"{name} is {value!r}: must be {also}a whole number of at least {smallest}.")
    return value
