"""Where the images of a dataset come from: files, or files decoded once into a pack.

A source is a row of images: `len(source)`, `source.name(i)` for messages and results, and `source.read(i)`, the pixels
as (H, W) or (H, W, C) of uint8, uint16 or float32 in RGB order, perhaps as a read-only view. Of `source.view(i)` only
what is cut out of it is decoded, where the file lets that.
"""

from __future__ import annotations

import bisect
import functools
import itertools
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from restore.data.storage.packing import Pack, pack_images
from restore.images import PngRows, read_image, read_rows
from restore.images.colour import LUMA, STUDIO_LUMA
from restore.images.tiff import map_pixels

__all__ = ["FileSource", "JoinedSource", "PackedSource", "Source", "channels_of"]

log = logging.getLogger(__name__)


class Source(Protocol):
    """A row of images."""

    def __len__(self) -> int: ...

    def name(self, index: int) -> str:
        """The path of an image, for messages and file names."""

    def read(self, index: int) -> np.ndarray:
        """The pixels of an image."""

    def view(self, index: int) -> np.ndarray | PngRows:
        """The pixels of an image, from which parts can be cut: `[rows, columns]`."""


class FileSource:
    """Image files, decoded whole each time they are read; of uncompressed TIFF files only what is taken is read."""

    def __init__(self, paths: Sequence[Path]):
        self.paths = list(paths)

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, index: int) -> str:
        """The path of image `index`."""
        return str(self.paths[index])

    def read(self, index: int) -> np.ndarray:
        """Decode image `index`, or map it where the file lets that."""
        path = self.paths[index]
        mapped = map_pixels(path) if path.suffix.lower() in (".tif", ".tiff") else None
        return read_image(path, unit=True).pixels if mapped is None else mapped

    def view(self, index: int) -> np.ndarray | PngRows:
        """Image `index`, of a PNG file decoded as far as it is cut out."""
        path = self.paths[index]
        return read_rows(path) if path.suffix.lower() == ".png" else self.read(index)


class PackedSource(FileSource):
    """Image files, decoded once into a memory-mapped pack that is kept for later runs.

    A file that could not be decoded then is tried again whenever it is asked for.
    """

    def __init__(self, paths: Sequence[Path], folder: str | Path | None = None):
        super().__init__(paths)
        self._pack: Pack = pack_images(self.paths, super().read, folder)

    def read(self, index: int) -> np.ndarray:
        """A read-only view of image `index`."""
        pixels = self._pack[index]
        return super().read(index) if pixels is None else pixels

    def view(self, index: int) -> np.ndarray:
        """As `read`: a view needs no more than what is cut out."""
        return self.read(index)


class JoinedSource:
    """Several sources, one after the other."""

    def __init__(self, sources: Sequence[Source]):
        self.sources = list(sources)
        self._ends = list(itertools.accumulate(map(len, self.sources)))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def name(self, index: int) -> str:
        """The path of image `index`."""
        source, inner = self._place(index)
        return source.name(inner)

    def read(self, index: int) -> np.ndarray:
        """Decode image `index`."""
        source, inner = self._place(index)
        return source.read(inner)

    def view(self, index: int) -> np.ndarray | PngRows:
        """Image `index`, as its source views it."""
        source, inner = self._place(index)
        return source.view(inner)

    def _place(self, index: int) -> tuple[Source, int]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        number = bisect.bisect_right(self._ends, index)
        return self.sources[number], index - (self._ends[number - 1] if number else 0)


def channels_of(pixels: np.ndarray, color: str) -> np.ndarray:
    """`pixels` as (H, W, C) in the channels that a dataset trains on; alpha is dropped.

    Args:
        pixels: (H, W), (H, W, 2), (H, W, 3) or (H, W, 4).
        color: `rgb`, `y` (BT.601 studio luma, float32), or `grey`, `gray` (full-range luma; grey images as they are).
    """
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.shape[2] in (2, 4):
        pixels = pixels[..., :-1]
    is_grey = pixels.shape[2] == 1
    if color in ("grey", "gray"):
        return pixels if is_grey else _weighted(pixels, LUMA)
    if is_grey:
        if color == "y":
            _warn_of_studio_luma()
        pixels = np.broadcast_to(pixels, (*pixels.shape[:2], 3))
    return pixels if color == "rgb" else _studio_luma(pixels)


@functools.cache
def _warn_of_studio_luma() -> None:
    """Once: papers measure grey sets such as Classic5 as they are, which is 0.8 dB less there."""
    log.warning(
        "color: y squeezes grey images into the range of video, 16 to 235; to take them as they are: color: grey"
    )


def _weighted(pixels: np.ndarray, weights: Sequence[float]) -> np.ndarray:
    luma = pixels.astype(np.float32) @ np.array(weights, np.float32)
    return (luma if pixels.dtype == np.float32 else np.round(luma).astype(pixels.dtype))[..., None]


def _studio_luma(pixels: np.ndarray) -> np.ndarray:
    top = 1.0 if pixels.dtype == np.float32 else float(np.iinfo(pixels.dtype).max)
    return (pixels.astype(np.float32) / top @ np.array(STUDIO_LUMA, np.float32) + np.float32(16 / 255))[..., None]
