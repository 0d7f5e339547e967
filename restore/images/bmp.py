"""BMP files, written from top to bottom although their rows lie from bottom to top.

Grey images have 8 bits and a palette, colours 24 bits, and images with alpha 32 bits under a header of version 4, which
says where alpha is: readers ignore it otherwise. The layout is that of Microsoft's BITMAPINFOHEADER and BITMAPV4HEADER.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import BinaryIO

import numpy as np

from restore.images.carried import Carried

__all__ = ["Encoder"]

_FILE_HEADER = 14  # bytes
_BY_MASKS = 3
_MASKS = (0xFF0000, 0xFF00, 0xFF, 0xFF000000)
_STEP_BYTES = 1 << 20
_STORED = {1: [0], 2: [0, 0, 0, 1], 3: [2, 1, 0], 4: [2, 1, 0, 3]}
"""For each number of channels of an image, those that are stored."""


class Encoder:
    """Writes the rows of an image of 8 bits as they come.

    Args:
        file: where to; it can be written at any place.
        shape: (H, W) or (H, W, C), with C of 1 to 4; grey with alpha is stored as RGBA.
        carried: of which the resolution is written.
    """

    def __init__(self, file: BinaryIO, shape: Sequence[int], carried: Carried):
        height, width, channels = shape[0], shape[1], shape[2] if len(shape) > 2 else 1
        self._file, self._width, self._channels = file, width, _STORED[channels]
        self._row_bytes = (width * len(self._channels) + 3) // 4 * 4
        self._left = height  # rows
        head = _head(height, width, len(self._channels), height * self._row_bytes, carried)
        self._start = len(head)
        file.write(head)

    def write(self, rows: np.ndarray) -> None:
        """The next rows, (rows, W) or (rows, W, C)."""
        step = max(1, _STEP_BYTES // self._row_bytes)
        for first in range(0, len(rows), step):
            self._put(rows[first : first + step])

    def finish(self) -> None:
        """What follows the last row: nothing."""

    def _put(self, rows: np.ndarray) -> None:
        self._left -= len(rows)
        stored = np.zeros((len(rows), self._row_bytes), np.uint8)
        pixels = stored[:, : self._width * len(self._channels)].reshape(len(rows), self._width, -1)
        pixels[:] = rows[::-1].reshape(len(rows), self._width, -1)[..., self._channels]
        self._file.seek(self._start + self._left * self._row_bytes)
        self._file.write(stored.data)


def _head(height: int, width: int, channels: int, size: int, carried: Carried) -> bytes:
    """All that stands before the pixels."""
    across, down = (0, 0)
    if carried.density:
        across, down = (min(round(dots / 0.0254), (1 << 31) - 1) for dots in carried.density[:2])
    palette = b"".join(bytes((grey, grey, grey, 0)) for grey in range(256)) if channels == 1 else b""
    more = struct.pack("<4I", *_MASKS) + b"BGRs" + bytes(48) if channels == 4 else b""
    start = _FILE_HEADER + 40 + len(more) + len(palette)
    return (
        struct.pack("<2sIHHI", b"BM", start + size, 0, 0, start)
        + struct.pack("<IiiHHI", 40 + len(more), width, height, 1, 8 * channels, _BY_MASKS if channels == 4 else 0)
        + struct.pack("<IiiII", size, across, down, 256 if channels == 1 else 0, 0)
        + more
        + palette
    )
