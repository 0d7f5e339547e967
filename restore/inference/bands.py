"""The engine: tiles go through a network in batches and blend where they overlap; what is finished leaves it at once.

However large the image, what is held in float32 is one tile, and the rows at its bottom that the next row of tiles
changes. Running out of memory halves the work and goes on where it stood.
"""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

import numpy as np
import torch

from restore.allocator import zeros_apart
from restore.errors import DeviceError
from restore.images.padding import Frame
from restore.inference.memory import free_bytes, is_out_of_memory, release_cached
from restore.inference.tiling import Axis, Plan, blend_axis

__all__ = ["Forward", "Part", "Planes", "RecoveringForward", "crop_parts", "joined", "pieces_of", "restore_parts"]

ADDED_ROWS = 256
PIECE_PX = 1 << 18
Forward = Callable[[torch.Tensor], torch.Tensor]
Part = tuple[torch.Tensor, int, int]
"""Some planes of a result, (batch, C, rows, columns), and the row and the column of the result that they begin at."""

logger = logging.getLogger(__name__)


class Planes(Protocol):
    """Where the engine takes its pixels from: any rectangle of a batch of planes, in float32."""

    batch: int

    def planes(self, rows: np.ndarray, columns: np.ndarray) -> torch.Tensor:
        """(batch, C, rows, columns); index -1 stands for a row or column of zeros."""


def restore_parts(
    source: Planes,
    forward: Forward,
    plan: Plan,
    index: tuple[np.ndarray, np.ndarray],
    *,
    scale: int,
    device: torch.device,
    tile_batch: int = 1,
    on_progress: Callable[[float], None] | None = None,
) -> Iterator[Part]:
    """Restore a batch of planes, yielding finished parts in float32: one for each tile, in their order.

    Rows of tiles come from top to bottom, and within them tiles from left to right, so the parts of a row of tiles have
    the same rows, one beside the other. A part is a view that changes when the next one is asked for: copy what is to
    be kept.

    Args:
        source: the planes.
        forward: tiles (B, C, h, w) to (B, C, h * scale, w * scale) in float32.
        plan: the tiles and how they join.
        index: for each row and column of the plan, the row or column of `source` that lies there (-1: zeros).
        scale: of the network.
        device: where the tiles go.
        tile_batch: tiles of each plane that go through the network together.
        on_progress: called after each batch with the share of tiles that are done.
    """
    tall, wide = plan.tall, plan.wide
    sums: _Sums | None = None
    for number, top in enumerate(tall.starts):
        pixels = source.planes(index[0][top : top + tall.tile_px], index[1]).to(device)
        for first in range(0, len(wide.starts), tile_batch):
            chosen = range(first, min(first + tile_batch, len(wide.starts)))
            tiles = torch.cat([pixels[..., wide.starts[i] : wide.starts[i] + wide.tile_px] for i in chosen])
            restored = forward(tiles).chunk(len(chosen))
            if sums is None:
                sums = _Sums(plan, restored[0], scale)
            for i, tile in zip(chosen, restored, strict=True):
                yield sums.add(tile, number, i), top * scale, wide.starts[i] * scale
            if on_progress:
                on_progress((number + (chosen[-1] + 1) / len(wide.starts)) / len(tall.starts))


def crop_parts(parts: Iterable[Part], framed: Frame, scale: int) -> Iterator[Part]:
    """From parts of an enlarged frame, what lies in the image, placed in the image; empty parts are left out."""
    (top, left), (height, width) = ([scale * px for px in pair] for pair in (framed.offset, framed.image_size))
    for x_BCHW, row, column in parts:
        row, column = row - top, column - left
        rows = slice(max(-row, 0), min(height - row, x_BCHW.shape[-2]))
        columns = slice(max(-column, 0), min(width - column, x_BCHW.shape[-1]))
        if rows.start < rows.stop and columns.start < columns.stop:
            yield x_BCHW[..., rows, columns], row + rows.start, column + columns.start


def pieces_of(part: Part) -> Iterator[Part]:
    """Pieces of some rows of a part, so small that converting one takes little memory."""
    x_BCHW, row, column = part
    step = max(1, PIECE_PX // x_BCHW.shape[-1])
    for first in range(0, x_BCHW.shape[-2], step):
        yield x_BCHW[..., first : first + step, :], row + first, column


def joined(parts: Iterable[Part], height: int, width: int) -> torch.Tensor:
    """The whole of a result of this size, from all of its parts."""
    whole: torch.Tensor | None = None
    for x_BCHW, row, column in parts:
        if whole is None:
            whole = x_BCHW.new_empty(*x_BCHW.shape[:-2], height, width)
        whole[..., row : row + x_BCHW.shape[-2], column : column + x_BCHW.shape[-1]] = x_BCHW
    assert whole is not None
    return whole


class _Sums:
    """Sums of weighted tiles that come in the order of a plan, of which a part is finished with each tile.

    Held are the sums under the last tile, and those of the rows below what is finished, at the bottom of a row of
    tiles: the next row of tiles goes on from there.

    Args:
        plan: the tiles and how they join.
        like: a tile, for its shape, and where it is.
        scale: of the network.
    """

    def __init__(self, plan: Plan, like: torch.Tensor, scale: int):
        self._plan, self._scale = plan, scale
        self._finished = [_steps(axis, scale) for axis in (plan.tall, plan.wide)]
        *first, height, width = like.shape
        rows = height - min(self._finished[0])
        sizes = [(*first, height, width), (*first, rows, plan.wide.size_px * scale)]
        device = _roomy(like.device, 4 * sum(map(math.prod, sizes)))
        self._is_one = len(plan.tall.starts) == len(plan.wide.starts) == 1
        self._tile, self._below = (torch.empty(0) if self._is_one else _zeros(size, device) for size in sizes)
        self._num_below = 0  # rows that the row of tiles above has left

    def add(self, tile: torch.Tensor, row: int, column: int) -> torch.Tensor:
        """Add a tile, in its place in the plan; what is finished by it, a view that the next tile changes."""
        if self._is_one:  # its weights are all one
            return tile
        sums, below = self._tile, self._below
        height, width = self._finished[0][row], self._finished[1][column]
        left = self._plan.wide.starts[column] * self._scale
        known = sums.shape[-1] - self._finished[1][column - 1] if column else 0  # columns, from the tile at its left
        if known:
            sums[..., :known] = sums[..., -known:].clone()
        sums[..., known:] = 0
        sums[..., : self._num_below, known:] = below[..., : self._num_below, left + known : left + sums.shape[-1]]
        weights = torch.from_numpy(self._plan.weights(row, column)).to(sums.device)
        _add(sums, tile.to(sums.device), weights)
        rest = sums.shape[-2] - height
        below[..., :rest, left : left + width] = sums[..., height:, :width]
        if column == len(self._plan.wide.starts) - 1:
            self._num_below = rest
        return sums[..., :height, :width]


def _steps(axis: Axis, scale: int) -> list[int]:
    """For each tile of an axis, how many of its pixels no later tile changes."""
    return [scale * (next_ - start) for start, next_ in itertools.pairwise([*axis.starts, axis.size_px])]


def _add(sums: torch.Tensor, tile: torch.Tensor, weights: torch.Tensor) -> None:
    """Add a weighted tile to sums of its size, some rows at a time: no second tile is made."""
    for first in range(0, tile.shape[-2], ADDED_ROWS):
        rows = slice(first, first + ADDED_ROWS)
        sums[..., rows, :] += tile[..., rows, :] * weights[rows]


def _zeros(shape: tuple[int, ...], device: torch.device) -> torch.Tensor:
    if device.type == "cpu":
        return torch.from_numpy(zeros_apart(shape, np.float32))
    return torch.zeros(shape, device=device)


def _roomy(device: torch.device, size: int) -> torch.device:
    """The device of the tiles if `size` bytes are little against what is free there, else the host."""
    return device if 4 * size < free_bytes(device) else torch.device("cpu")


class RecoveringForward:
    """A network that halves what it is given whenever memory runs out: first the batch, then the tile itself.

    It remembers how many pixels were too many, so this happens once and not for every tile. A tile that has to be cut
    is restored as a small image of its own, blended; the plan around it stays, and nothing that is finished is lost.

    Args:
        forward: the network, tiles in and scaled tiles out.
        scale: of the network.
        multiple: tile sides are multiples of this.
        overlap_px: overlap of the parts of a cut tile.
    """

    SMALLEST_PX = 32

    def __init__(self, forward: Forward, scale: int, multiple: int, overlap_px: int):
        self.too_many: int | None = None  # pixels of the smallest batch that did not fit
        self._forward = forward
        self._scale, self._multiple, self._overlap_px = scale, multiple, overlap_px

    def __call__(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """Tiles (B, C, h, w) to (B, C, h * scale, w * scale).

        Raises:
            DeviceError: not even the smallest tile fits.
        """
        batch, _, height, width = x_BCHW.shape
        pixels = batch * height * width
        if self.too_many is None or pixels < self.too_many:
            try:
                return self._forward(x_BCHW)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            # Outside of the `except`, whose traceback keeps the failed attempt's tensors alive.
            self.too_many = pixels
            release_cached(x_BCHW.device)
            logger.warning("out of memory at %d x %d x %d px: continuing with half of it", batch, height, width)
        if batch > 1:
            return torch.cat([self(half) for half in x_BCHW.chunk(2)])
        return self._in_halves(x_BCHW)

    def _in_halves(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        sizes = tuple(x_BCHW.shape[-2:])
        if max(sizes) < max(self.SMALLEST_PX, 2 * self._multiple):
            raise DeviceError(
                f"{x_BCHW.device} is out of memory even for a tile of {sizes[0]} x {sizes[1]} px: "
                "free some memory, or use another device."
            )
        longer = sizes.index(max(sizes))
        tall, wide = (
            self._halves(size) if side == longer else blend_axis(size, size, 0, scale=self._scale)
            for side, size in enumerate(sizes)
        )
        index = (np.arange(sizes[0]), np.arange(sizes[1]))
        parts = restore_parts(_Tile(x_BCHW), self, Plan(tall, wide), index, scale=self._scale, device=x_BCHW.device)
        return joined(parts, *(side * self._scale for side in sizes))

    def _halves(self, size_px: int) -> Axis:
        """Two tiles, each a little more than half of the side."""
        multiple = math.gcd(self._multiple, size_px)
        overlap = min(self._overlap_px, size_px // 4)
        tile = min(-(-(size_px + overlap) // (2 * multiple)) * multiple, size_px - multiple)
        return blend_axis(size_px, tile, 2 * tile - size_px, multiple, self._scale)


class _Tile:
    """A tile as the source of its own parts."""

    def __init__(self, x_BCHW: torch.Tensor):
        self.batch = x_BCHW.shape[0]
        self._x_BCHW = x_BCHW

    def planes(self, rows: np.ndarray, columns: np.ndarray) -> torch.Tensor:
        return self._x_BCHW[..., rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
