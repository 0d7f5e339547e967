"""The engine: tiles go through a network in batches, blend into a band of rows, and finished rows leave it at once.

However large the image, what is held in float32 is one row of tiles. Running out of memory halves the work and goes on
where it stood.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

import numpy as np
import torch

from restore.errors import DeviceError
from restore.images.padding import Frame
from restore.inference.memory import free_bytes, is_out_of_memory, release_cached
from restore.inference.tiling import Axis, Plan, blend_axis

__all__ = ["PIECE_ROWS", "Forward", "Planes", "RecoveringForward", "crop_blocks", "restore_bands"]

PIECE_ROWS = 32
ADDED_ROWS = 256
Forward = Callable[[torch.Tensor], torch.Tensor]
logger = logging.getLogger(__name__)


class Planes(Protocol):
    """Where the engine takes its pixels from: any rectangle of a batch of planes, in float32."""

    batch: int

    def planes(self, rows: np.ndarray, columns: np.ndarray) -> torch.Tensor:
        """(batch, C, rows, columns); index -1 stands for a row or column of zeros."""


def restore_bands(
    source: Planes,
    forward: Forward,
    plan: Plan,
    index: tuple[np.ndarray, np.ndarray],
    *,
    scale: int,
    device: torch.device,
    tile_batch: int = 1,
    on_progress: Callable[[float], None] | None = None,
) -> Iterator[torch.Tensor]:
    """Restore a batch of planes, yielding (batch, C, rows, width * scale) float32 blocks from top to bottom.

    A block is a view of the band, which changes when the next one is asked for: copy what is to be kept.

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
    band: torch.Tensor | None = None
    for number, top in enumerate(tall.starts):
        pixels = source.planes(index[0][top : top + tall.tile_px], index[1]).to(device)
        for first in range(0, len(wide.starts), tile_batch):
            chosen = range(first, min(first + tile_batch, len(wide.starts)))
            tiles = torch.cat([pixels[..., wide.starts[i] : wide.starts[i] + wide.tile_px] for i in chosen])
            restored = forward(tiles).chunk(len(chosen))
            if band is None:
                band = _empty_band(restored[0], wide.size_px * scale)
            for i, tile in zip(chosen, restored, strict=True):
                weights = torch.from_numpy(plan.weights(number, i)).to(band.device)
                left = wide.starts[i] * scale
                _add(band[..., left : left + tile.shape[-1]], tile.to(band.device), weights)
            if on_progress:
                on_progress((number + (chosen[-1] + 1) / len(wide.starts)) / len(tall.starts))
        assert band is not None
        following = tall.starts[number + 1] if number + 1 < len(tall.starts) else tall.size_px
        finished = (following - top) * scale
        yield band[..., :finished, :]
        kept = band.shape[-2] - finished
        band[..., :kept, :] = band[..., finished:, :].clone()
        band[..., kept:, :] = 0


def crop_blocks(blocks: Iterable[torch.Tensor], framed: Frame, scale: int) -> Iterator[tuple[torch.Tensor, int]]:
    """From blocks of rows that fill an enlarged frame, those of the image, each with its first row in the image.

    They come in pieces of at most `PIECE_ROWS`, so that converting them takes little memory.
    """
    (top, left), (height, width) = ([scale * px for px in pair] for pair in (framed.offset, framed.image_size))
    row = -top
    for block in blocks:
        start, stop = max(-row, 0), min(height - row, block.shape[-2])
        for first in range(start, stop, PIECE_ROWS):
            yield block[..., first : min(first + PIECE_ROWS, stop), left : left + width], row + first
        row += block.shape[-2]


def _add(band: torch.Tensor, tile: torch.Tensor, weights: torch.Tensor) -> None:
    """Add a weighted tile to its part of the band, some rows at a time: no second tile is made."""
    for first in range(0, tile.shape[-2], ADDED_ROWS):
        rows = slice(first, first + ADDED_ROWS)
        band[..., rows, :] += tile[..., rows, :] * weights[rows]


def _empty_band(tile: torch.Tensor, width: int) -> torch.Tensor:
    """A band of zeros: beside the tiles if it is small against what is free there, else in host memory."""
    shape = (*tile.shape[:-1], width)
    size = 4 * int(np.prod(shape))
    device = tile.device if 4 * size < free_bytes(tile.device) else torch.device("cpu")
    return torch.zeros(shape, device=device)


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
        blocks = restore_bands(_Tile(x_BCHW), self, Plan(tall, wide), index, scale=self._scale, device=x_BCHW.device)
        return torch.cat([block.clone() for block in blocks], dim=-2)

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
