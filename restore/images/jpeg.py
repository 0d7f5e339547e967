"""JPEG: whether all of its pixels are there, which the decoder does not say; and files from strips of their rows."""

from __future__ import annotations

import random
import re
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from restore.images.strips import Strips

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

__all__ = ["DECODED_PER_BYTE", "END", "Encoder", "Scans", "ends_early", "is_whole", "read_scans"]

END = b"\xff\xd9"
DECODED_PER_BYTE = 4096
"""Decoded bytes that one byte of a file can stand for, at the most: a flat block takes two bits."""

_TALLEST_UNIT = 32  # rows of the largest unit of coding: where data end early, some of the last rows are missing
_FILLER_BYTES = 1 << 12
_MARKER = re.compile(rb"\xff+([^\x00\xff])")
_RESTART = re.compile(rb"\xff([\xd0-\xd7])")
_ALONE = {0x01, *range(0xD0, 0xD9)}  # markers without a length: restarts, the start of an image
_START_OF_FRAME = {0xC0, 0xC1, 0xC2, 0xC5, 0xC6, 0xC9, 0xCA}
_ARITHMETIC = {0xC9, 0xCA}
_PROGRESSIVE = {0xC2, 0xC6, 0xCA}
_START_OF_SCAN, _END_OF_IMAGE = 0xDA, 0xD9
_FRAME_FOLLOWS, _SCAN_FOLLOWS = b"\xff\xc0", b"\xff\xda"
_UNIT_PX = 8  # side of a unit of code, of colour without subsampling
_LONGEST_INTERVAL = 0xFFFF  # units between restart markers
_STRIP_UNITS = 1 << 14  # of a larger image, about a megapixel


@dataclass(frozen=True)
class Scans:
    """What the markers of the first image of a file say.

    Attributes:
        end: where the marker lies that ends it; None where there is none.
        complete: whether there is a scan for every bit of every coefficient.
        arithmetic: whether the coding is arithmetic, which leaves out zeros at the end of its data.
    """

    end: int | None
    complete: bool
    arithmetic: bool


def read_scans(data: bytes) -> Scans:
    """Go from marker to marker; thumbnails and images after the first are not looked at."""
    lacking: dict[int, list[int]] = {}  # of each component, the bits that its coefficients still lack
    position, end, has_scan, arithmetic, progressive = 2, None, False, False, False
    while found := _MARKER.search(data, position):
        marker, position = found[1][0], found.end()
        if marker == _END_OF_IMAGE:
            end = found.end() - 2
            break
        if marker in _ALONE:
            continue
        length = int.from_bytes(data[position : position + 2], "big")
        segment = data[position + 2 : position + length]
        if len(segment) < max(length - 2, 0):
            break
        if marker in _START_OF_FRAME and len(segment) >= 6 + 3 * segment[5]:
            arithmetic, progressive = marker in _ARITHMETIC, marker in _PROGRESSIVE
            lacking = {segment[6 + 3 * number]: [99] * 64 for number in range(segment[5])}
        elif marker == _START_OF_SCAN and len(segment) >= 4 + 2 * segment[0]:
            has_scan = True
            for number in range(segment[0]):
                first, last, lowest = (segment[-3], segment[-2], segment[-1] & 15) if progressive else (0, 63, 0)
                lacking.setdefault(segment[1 + 2 * number], [0] * 64)[first : last + 1] = [lowest] * (last + 1 - first)
        position += length
    return Scans(end, has_scan and not any(any(bits) for bits in lacking.values()), arithmetic)


def is_whole(data: bytes, decode: Callable[[bytes], np.ndarray]) -> bool:
    """Whether the pixels of a file are all there, with an end or without.

    The decoder takes whatever follows for the rest of an image, and ignores it where nothing is missing. So files with
    different endings show the same pixels if, and only if, the image is whole.

    Args:
        data: the file.
        decode: gives the pixels of a file that ends properly.
    """
    scans = read_scans(data)
    if not scans.complete:
        return False
    first, *others = (decode(_continued(data[: scans.end], begin)) for begin in (0x00, 0x55, 0xAA, 0xFE))
    return all(np.array_equal(first, other) for other in others)


def ends_early(data: bytes, image: PillowImage, reopen: Callable[[bytes], PillowImage]) -> bool:
    """Whether the data of a file end before its pixels do, though the mark of its end follows them.

    The decoder takes zeros for bits that are missing: with others in their place its last rows change.

    Args:
        data: the file.
        image: what the decoder makes of it.
        reopen: gives what it makes of another file.
    """
    scans = read_scans(data)
    if scans.end is None or scans.arithmetic:
        return False
    body = data[: scans.end]
    has_restarts = _RESTART.search(body, body.rfind(b"\xff\xda")) is not None  # behind the eighth nothing changes
    top = max(0, image.height - _TALLEST_UNIT)
    shown = [image, reopen(_continued(body, 0xB3))]
    if not has_restarts:
        shown = [each.crop((0, top, *image.size)) for each in shown]
    return not scans.complete or shown[0].tobytes() != shown[1].tobytes()


class Encoder:
    """Writes a JPEG file from top to bottom, as strips of its rows that are encoded apart.

    Nothing in a block of 8 x 8 pixels depends on others but its mean, which is stored as a difference, and begins anew
    after a restart marker (ITU T.81, section E.1.4). So strips that were encoded with the same tables, one after
    another with such markers between them, are the image's own code. An image of up to about 4 megapixels is one strip.

    Args:
        file: where to.
        shape: (H, W) or (H, W, 3) of the image.
        encode: a whole file of some rows, without subsampling, with what the image carries or without.
        density: dots across and down, and whether they are per inch.
    """

    def __init__(
        self,
        file: BinaryIO,
        shape: Sequence[int],
        encode: Callable[[np.ndarray, bool], bytes],
        density: tuple[float, float, bool] | None,
    ):
        self._file, self._encode, self._density, self._height = file, encode, density, shape[0]
        self._units = -(-shape[1] // _UNIT_PX)  # of code in a row of them
        rows = _LONGEST_INTERVAL // self._units * _UNIT_PX
        self._is_one = rows >= self._height
        if not self._is_one:  # then they may as well be smaller, of which an encoder holds several copies
            rows = min(rows, max(1, _STRIP_UNITS // self._units) * _UNIT_PX)
        self._rows, self._strips, self._written = rows, Strips(rows), 0

    def write(self, rows: np.ndarray) -> None:
        """The next rows."""
        for strip in self._strips.cut(rows):
            self._put(strip)

    def finish(self) -> None:
        """What follows the last row."""
        for strip in self._strips.rest():
            self._put(strip)
        self._file.write(END)

    def _put(self, strip: np.ndarray) -> None:
        data = self._encode(strip, self._written == 0)
        scan = data.rindex(_SCAN_FOLLOWS)
        code = scan + 2 + int.from_bytes(data[scan + 2 : scan + 4], "big")
        if self._written:
            self._file.write(bytes((0xFF, 0xD0 + (self._written - 1) % 8)))
        else:
            self._file.write(self._head(data[:scan]) + data[scan:code])
        self._file.write(memoryview(data)[code : -len(END)])
        self._written += 1

    def _head(self, head: bytes) -> bytes:
        """What precedes the scan of the first strip, with the height and the density of the image."""
        if self._density:
            head = _with_density(head, self._density)
        if self._is_one:
            return head
        changed = bytearray(head)
        place = changed.rindex(_FRAME_FOLLOWS)
        struct.pack_into(">H", changed, place + 5, self._height)
        interval = self._units * self._rows // _UNIT_PX
        return bytes(changed) + struct.pack(">BBHH", 0xFF, 0xDD, 4, interval)


def _with_density(head: bytes, density: tuple[float, float, bool]) -> bytes:
    """The head of a file with a resolution, or a ratio, in its JFIF header; unchanged where it has no such header."""
    if head[6:11] != b"JFIF\0":
        return head
    across, down, inches = density
    factor = 1 if inches or (across.is_integer() and down.is_integer()) else 100
    changed = bytearray(head)
    dots = (max(1, min(round(each * factor), 0xFFFF)) for each in (across, down))
    struct.pack_into(">BHH", changed, 13, int(inches), *dots)
    return bytes(changed)


def _continued(data: bytes, begin: int) -> bytes:
    """A file without its end, with more data behind it that begin with this byte, and an end."""
    body = data.rstrip(b"\xff")
    last = _RESTART.findall(body[body.rfind(b"\xff\xda") :])
    return body + _filler(begin, (last[-1][0] + 1) % 8 if last else 0) + END


def _filler(begin: int, awaited: int) -> bytes:
    """Bytes that decode to something, also under the restart markers from number `awaited` on."""
    source = random.Random(begin)
    pieces = [bytes([begin]) + source.randbytes(_FILLER_BYTES).replace(b"\xff", b"\0") for _ in range(9)]
    restarts = (bytes((0xFF, 0xD0 + (awaited + number) % 8)) + piece for number, piece in enumerate(pieces[1:]))
    return pieces[0] + b"".join(restarts)
