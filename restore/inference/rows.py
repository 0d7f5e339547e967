"""Results from top to bottom: parts of a row of tiles are put beside each other, and resized where it is asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch

from restore.allocator import zeros_apart
from restore.images.resized_rows import RowResizer
from restore.inference.bands import Part, pieces_of
from restore.inference.channels import PixelSource

__all__ = ["PIECE_ROWS", "in_pieces", "resized_bands", "rows_of"]

PIECE_ROWS = 32
"""The most rows that are handed out at a time."""


def rows_of(source: PixelSource, parts: Iterable[Part], width: int) -> Iterator[np.ndarray]:
    """The rows of a result of this width; what is held is a row of tiles in the depth of the result.

    Args:
        source: of one image.
        parts: of its restored planes, see `restore.inference.bands.restore_parts`.
        width: of the result.
    """
    band = np.empty((0, width, *source.channels), source.dtype)
    for part in parts:
        planes, row, column = part
        height = planes.shape[-2]
        if len(band) < height:
            band = zeros_apart((height, *band.shape[1:]), source.dtype)
        source.put(pieces_of(part), [band], row)
        if column + planes.shape[-1] == width:
            yield from (piece.copy() for piece in in_pieces(band[:height]))


def resized_bands(
    source: PixelSource, parts: Iterable[Part], size: tuple[int, int], target: tuple[int, int]
) -> Iterator[tuple[int, list[np.ndarray]]]:
    """Rows of resized results, one array for each image, and the row that they begin at; some for each row of tiles.

    The network's values are clamped before they are resized, and rounded after it.

    Args:
        source: of images of one size.
        parts: of their restored planes.
        size: (H, W) that the network gives.
        target: (H, W) of the results.
    """
    resizer, band, first = RowResizer(size, target), torch.empty(0), 0
    for planes, row, column in parts:
        x_NCHW = source.images(planes, row, column).float().clamp(0, 1)
        *shape, height, width = x_NCHW.shape
        if column == 0:
            band = band if band.shape == (*shape, height, size[1]) else x_NCHW.new_empty(*shape, height, size[1])
        band[..., column : column + width] = x_NCHW
        if column + width == size[1]:
            rows = resizer.add(band)
            if rows.shape[-2]:
                yield first, source.given(rows)
            first += rows.shape[-2]


def in_pieces(rows: np.ndarray) -> Iterator[np.ndarray]:
    """Views of at most `PIECE_ROWS` rows."""
    yield from (rows[first : first + PIECE_ROWS] for first in range(0, len(rows), PIECE_ROWS))
