"""The strips and tiles that a TIFF page lies in: whether all are there, and their samples put in place."""

from __future__ import annotations

import io
import math
import struct
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from restore.images import jpeg
from restore.images.bounds import check_claim

if TYPE_CHECKING:
    import tifffile

__all__ = ["Segments"]

_NONE, _LZW, _OLD_JPEG, _JPEG, _DEFLATE, _ADOBE_DEFLATE, _PACKBITS = 1, 5, 6, 7, 32946, 8, 32773
_HORIZONTAL, _FLOATING_POINT = 2, 3  # predictors
_YCBCR = 6
_MOST_PER_BYTE = {
    _NONE: 8,
    _LZW: 4096,
    _JPEG: jpeg.DECODED_PER_BYTE,
    _DEFLATE: 1032,
    _ADOBE_DEFLATE: 1032,
    _PACKBITS: 64,
}
"""Decoded bytes that one byte can stand for, at the most; of nothing compressed, bits that become bytes."""
_MOST_OF_OTHERS = 1 << 16


class Segments:
    """The strips or tiles of a page.

    Args:
        page: what tifffile makes of it.
        data: the whole file.

    Raises:
        ValueError: pixels are missing, or it claims more than is read.
    """

    def __init__(self, page: tifffile.TiffPage, data: bytes):
        self.page, self.data = page, data
        self.height, self.width = page.imagelength, page.imagewidth
        self.separate = page.planarconfig == 2 and page.samplesperpixel > 1
        self.samples = 1 if self.separate else page.samplesperpixel
        claim = self.height, self.width, page.samplesperpixel * page.bitspersample / 8
        held = sum(page.databytecounts)
        check_claim(*claim, held, _MOST_PER_BYTE.get(page.compression, _MOST_OF_OTHERS))
        if page.is_tiled:
            self.rows, self.columns = page.tilelength, page.tilewidth
        else:
            self.rows, self.columns = min(page.rowsperstrip or self.height, self.height), self.width
        check_claim(self.rows, self.columns, self.samples * page.bitspersample / 8, held, _MOST_OF_OTHERS)
        self._check_all_there()

    @property
    def row_bytes(self) -> int:
        """Of one row of a segment, decoded."""
        return math.ceil(self.columns * self.samples * self.page.bitspersample / 8)

    def pixels(self) -> np.ndarray:
        """The samples (H, W) or (H, W, C) as they are stored, in the machine's byte order.

        Raises:
            ValueError: a segment is damaged or too short, or inflates to more than its rows, or its compression or
                predictor is not known.
        """
        page, planes = self.page, self.page.samplesperpixel if self.separate else 1
        image = np.empty((planes, self.height, self.width, self.samples), page.dtype)
        for index, (plane, top, left) in enumerate(self._places()):
            rows = min(self.rows, self.height - top)
            stored = self.rows if page.is_tiled else rows
            samples = self._samples(index, stored)
            image[plane, top : top + rows, left : left + self.columns] = samples[:rows, : self.width - left]
        pixels = np.ascontiguousarray(np.moveaxis(image[..., 0], 0, 2)) if self.separate else image[0]
        return pixels[..., 0] if pixels.shape[2] == 1 else pixels

    def _places(self) -> Iterator[tuple[int, int, int]]:
        """Plane, row and column at which each segment begins."""
        for plane in range(self.page.samplesperpixel if self.separate else 1):
            for top in range(0, self.height, self.rows):
                for left in range(0, self.width, self.columns):
                    yield plane, top, left

    def _check_all_there(self) -> None:
        page = self.page
        kind = "tile" if page.is_tiled else "strip"
        per_plane = math.ceil(self.height / self.rows) * math.ceil(self.width / self.columns)
        needed = per_plane * (page.samplesperpixel if self.separate else 1)
        listed = min(len(page.dataoffsets), len(page.databytecounts))
        if listed < needed:
            raise ValueError(f"the file is truncated (it lists {listed} of its {needed} {kind}s)")
        is_plain = page.compression == _NONE and page.photometric != _YCBCR  # whose chroma may have fewer samples
        for index in range(needed):
            start, length = page.dataoffsets[index], page.databytecounts[index]
            rows = self.rows if page.is_tiled else min(self.rows, self.height - index % per_plane * self.rows)
            name = f"{kind} {index + 1} of {needed}"
            if start + length > len(self.data):
                raise ValueError(f"the file is truncated (its pixel data reach past its end, in {name})")
            if not start or not length:
                raise ValueError(f"the file is truncated (there is nothing in {name})")
            if is_plain and length < rows * self.row_bytes:
                raise ValueError(f"the file is truncated ({name} has {length} of {rows * self.row_bytes} bytes)")
            if page.compression == _JPEG and jpeg.read_scans(self.data[start : start + length]).end is None:
                raise ValueError(f"the file is truncated ({name} has no end)")

    def _samples(self, index: int, rows: int) -> np.ndarray:
        """A segment as (rows, columns, samples)."""
        page = self.page
        start, length = page.dataoffsets[index], page.databytecounts[index]
        stored = self._decompressed(self.data[start : start + length], rows, index)
        dtype = page.dtype.newbyteorder(page.parent.byteorder)
        if page.predictor == _FLOATING_POINT:
            lanes = np.cumsum(stored.reshape(rows, -1, self.samples), axis=1, dtype=np.uint8)
            lanes = lanes.reshape(rows, dtype.itemsize, -1)  # the bytes of all samples, the highest first
            samples = np.ascontiguousarray(lanes.swapaxes(1, 2)).view(page.dtype.newbyteorder(">"))
            return samples.reshape(rows, self.columns, self.samples)
        samples = stored.view(dtype).reshape(rows, self.columns, self.samples)
        if page.predictor == _HORIZONTAL:
            unsigned = np.dtype(f"u{dtype.itemsize}")
            whole = samples.astype(page.dtype.newbyteorder("=")).view(unsigned)
            return np.cumsum(whole, axis=1, dtype=unsigned).view(page.dtype.newbyteorder("="))
        if page.predictor not in (0, 1):
            raise ValueError(f"TIFF predictor {page.predictor} is not supported")
        return samples

    def _decompressed(self, stored: bytes, rows: int, index: int) -> np.ndarray:
        """The bytes of `rows` rows."""
        needed = rows * self.row_bytes
        if self.page.compression == _NONE:
            found = stored
        elif self.page.compression in (_DEFLATE, _ADOBE_DEFLATE) and self.page.fillorder == 1:
            most = self.rows * self.row_bytes
            try:
                found = zlib.decompressobj().decompress(stored, most + 1)
            except zlib.error as error:
                raise ValueError(f"the pixel data are damaged ({error})") from error
            if len(found) > most:
                raise ValueError(f"the file is damaged (segment {index + 1} inflates to more than its {most} bytes)")
        else:
            found = _with_pillow(stored, rows, self.row_bytes, self.page)
        if len(found) < needed:
            raise ValueError(f"the file is truncated (segment {index + 1} has {len(found)} of {needed} bytes)")
        return np.frombuffer(found, np.uint8, needed)


def _with_pillow(stored: bytes, rows: int, row_bytes: int, page: tifffile.TiffPage) -> bytes:
    """What a segment decompresses to, as the rows of a grey image of bytes: libtiff knows more compressions.

    Raises:
        ValueError: this compression is not known, or the segment is too short or damaged.
    """
    from PIL.TiffImagePlugin import TiffImageFile

    entries = [
        (256, row_bytes),
        (257, rows),
        (258, 8),
        (259, int(page.compression)),
        (262, 1),
        (266, int(page.fillorder)),
        (273, 0),
        (277, 1),
        (278, rows),
        (279, len(stored)),
    ]
    start = 8 + 2 + 12 * len(entries) + 4
    directory = b"".join(struct.pack("<HHII", tag, 4, 1, start if tag == 273 else value) for tag, value in entries)
    head = b"II*\0" + struct.pack("<IH", 8, len(entries)) + directory + bytes(4)
    try:
        return TiffImageFile(io.BytesIO(head + stored)).tobytes()
    except (OSError, SyntaxError, KeyError) as error:
        raise ValueError(
            f"the pixel data are damaged, or their compression ({page.compression}) is not supported here"
        ) from error
