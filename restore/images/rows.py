"""PNG files of which only the rows that are wanted are decoded: a crop needs none below it."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from restore.errors import ImageError
from restore.images import png
from restore.images.decode import decode_image
from restore.images.exif import orientation_of

__all__ = ["PngRows", "open_rows"]


class PngRows:
    """The pixels of a plain PNG file, decoded from the top as far as they are asked for.

    Attributes:
        shape: (H, W) or (H, W, C), as `decode_image` would give it.
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, data: bytes, file: png.Png, name: str | Path):
        self._data, self._file, self._name = data, file, name
        channels = file.num_channels
        self.shape: tuple[int, ...] = (*file.size, channels) if channels > 1 else file.size

    @property
    def ndim(self) -> int:
        """2 for grey images, else 3."""
        return len(self.shape)

    def __getitem__(self, place: tuple[slice, slice]) -> np.ndarray:
        """The pixels of some rows and columns, given as slices that go forward.

        Raises:
            ImageError: the file is damaged above the last of these rows.
        """
        rows, columns = place
        start, stop, step = rows.indices(self.shape[0])
        decoded = self._file.decoded(max(stop, 1))
        if decoded is None:  # read with all care, which says what is wrong
            decoded = decode_image(self._data, self._name).pixels
        return decoded[start:stop:step, columns]


def open_rows(data: bytes, name: str | Path) -> PngRows | np.ndarray:
    """The pixels of an image file that is in memory, of a plain PNG file as `PngRows`.

    Plain are 8 bits of grey or colour, with or without alpha, upright and whole, in the order of rows.

    Raises:
        ImageError: as `restore.images.decode_image`.
    """
    if data.startswith(png.SIGNATURE):
        try:
            file = png.read(io.BytesIO(data))
            file.check_claim(len(file.data))
            if file.is_plain and not file.complaints and orientation_of(file.metadata()[1]) == 1:
                return PngRows(data, file, name)
        except (ImageError, ValueError):  # decode_image says it with the file's name
            pass
    return decode_image(data, name).pixels
