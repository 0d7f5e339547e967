"""PNM (PBM, PGM, PPM), plain and binary: a header of words, then numbers. Netpbm's manual describes it."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from restore.images.bounds import check_claim

__all__ = ["HEADER_BYTES", "MAGIC", "Header", "decode", "read_header"]

HEADER_BYTES = 1 << 12
MAGIC = tuple(f"P{kind}".encode() for kind in range(1, 7))
_SPACE = rb"(?:\s|#[^\n\r]*[\n\r])+"


@dataclass(frozen=True)
class Header:
    """What a file says of itself.

    Attributes:
        kind: 1 to 6: plain bits, greys, colours; and the same in binary.
        height: in px.
        width: in px.
        largest: value that stands for white; 1 of bits.
        start: where the pixels begin.
    """

    kind: int
    height: int
    width: int
    largest: int
    start: int

    @property
    def channels(self) -> int:
        """3 of colours, else 1."""
        return 3 if self.kind in (3, 6) else 1

    def check_claim(self, num_bytes: int) -> None:
        """Refuse a file of so many bytes that claims more pixels than they can hold.

        Raises:
            ValueError: says what is claimed.
        """
        pixel_bytes = self.channels * (1 if self.largest < 256 else 2)
        check_claim(self.height, self.width, pixel_bytes, num_bytes, 8 if self.kind == 4 else 1)


def read_header(data: bytes) -> Header:
    """The header of a file, of which `HEADER_BYTES` are enough.

    Raises:
        ValueError: it is damaged or cut off.
    """
    kind = int(data[1:2])
    words = 2 if kind in (1, 4) else 3
    found = re.match(rb"P[1-6]" + (_SPACE + rb"(\d{1,9})") * words + rb"\s", data[:HEADER_BYTES])
    if not found:
        raise ValueError("the file is damaged or truncated (in its header)")
    width, height, *rest = map(int, found.groups())
    largest = rest[0] if rest else 1
    if not 0 < largest <= 65535:
        raise ValueError(f"the file is damaged (its largest value is {largest}; allowed are 1 to 65535)")
    return Header(kind, height, width, largest, found.end())


def decode(data: bytes) -> np.ndarray:
    """The first image of a file: (H, W) or (H, W, 3); uint16 where values pass 255, else uint8, white at the top.

    Raises:
        ValueError: the file is damaged or truncated.
    """
    header = read_header(data)
    height, width, largest = header.height, header.width, header.largest
    count = height * width * header.channels
    if header.kind == 4:
        row = -(-width // 8)
        packed = _binary(data, header.start, height * row, np.dtype(np.uint8))
        values = np.unpackbits(packed.reshape(height, row), axis=1)[:, :width]
    elif header.kind > 4:
        values = _binary(data, header.start, count, np.dtype(np.uint8 if largest < 256 else ">u2"))
    else:
        values = _plain(data[header.start :], count, bits=header.kind == 1)
    if values.max() > largest:
        raise ValueError(f"the file is damaged (it holds {values.max()}, and its largest value is {largest})")
    if header.kind in (1, 4):
        values = 1 - values  # a one is black
    white = 255 if largest < 256 else 65535
    if largest != white:
        values = np.rint(values * (white / largest))
    pixels = values.astype(np.uint8 if white == 255 else np.uint16)
    return pixels.reshape((height, width, 3) if header.channels == 3 else (height, width))


def _binary(data: bytes, start: int, count: int, dtype: np.dtype) -> np.ndarray:
    if len(data) - start < count * dtype.itemsize:
        raise ValueError("the file is truncated")
    return np.frombuffer(data, dtype, count, start)


def _plain(text: bytes, count: int, *, bits: bool) -> np.ndarray:
    text = re.sub(rb"#[^\n\r]*", b"", text)
    words = re.findall(rb"[01]", text) if bits else text.split()[:count]
    if len(words) < count:
        raise ValueError("the file is truncated")
    return np.array(words[:count]).astype(np.uint32)
