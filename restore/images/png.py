"""PNG chunks: verified on reading, so that a damaged file is an error; added on writing, for ICC and EXIF."""

from __future__ import annotations

import struct
import zlib
from typing import BinaryIO

import numpy as np

__all__ = ["SIGNATURE", "add_metadata", "encode_grey_alpha", "icc_from_chunk", "read_chunks"]

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_HEADER_END = 33  # signature, and IHDR with its length, type and checksum
_MAX_ICC_BYTES = 64 << 20


def read_chunks(file: BinaryIO, *, verify: bool) -> dict[bytes, bytes]:
    """The first chunk of each type but the pixel data.

    Args:
        file: a PNG file, at its start.
        verify: read the pixel data too and check every checksum.

    Raises:
        ValueError: the file ends too early, or a checksum is wrong.
    """
    chunks: dict[bytes, bytes] = {}
    file.seek(len(SIGNATURE))
    while b"IEND" not in chunks:
        head = file.read(8)
        if len(head) < 8:
            raise ValueError("the file is truncated (no IEND chunk)")
        length, kind = struct.unpack(">I4s", head)
        if kind == b"IDAT" and not verify:
            file.seek(length + 4, 1)
            continue
        body = file.read(length + 4)
        if len(body) < length + 4:
            raise ValueError(f"the file is truncated (in its {kind.decode('latin-1')} chunk)")
        payload = memoryview(body)[:length]
        if verify and zlib.crc32(payload, zlib.crc32(kind)) != int.from_bytes(body[length:], "big"):
            raise ValueError(f"the file is damaged (wrong checksum in its {kind.decode('latin-1')} chunk)")
        if kind != b"IDAT":
            chunks.setdefault(kind, bytes(payload))
    if len(chunks.get(b"IHDR", b"")) != 13:
        raise ValueError("the file is damaged (no IHDR chunk)")
    return chunks


def icc_from_chunk(chunk: bytes | None) -> bytes | None:
    """The profile in an iCCP chunk; None if it cannot be unpacked."""
    if not chunk:
        return None
    packed = chunk[chunk.find(b"\0") + 2 :]
    try:
        return zlib.decompressobj().decompress(packed, _MAX_ICC_BYTES) or None
    except zlib.error:
        return None


def add_metadata(png: bytes, icc: bytes | None, exif: bytes | None) -> bytes:
    """The encoded file with a profile and an EXIF block right after its header."""
    added = b""
    if icc:
        added += _chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(icc))
    if exif:
        added += _chunk(b"eXIf", exif)
    return b"".join((png[:_HEADER_END], added, png[_HEADER_END:])) if added else png


def encode_grey_alpha(pixels: np.ndarray) -> bytes:
    """A (H, W, 2) image of 8 or 16 bit as PNG: the one layout that OpenCV does not write and Pillow only in 8 bit."""
    height, width, _ = pixels.shape
    step = 2 * pixels.itemsize
    rows = pixels.astype(pixels.dtype.newbyteorder(">"), order="C").view(np.uint8).reshape(height, width * step)
    filtered = np.empty((height, 1 + width * step), np.uint8)
    filtered[:, 0] = 1  # the filter "Sub": each byte less the same byte of the pixel to its left
    filtered[:, 1 : 1 + step] = rows[:, :step]
    np.subtract(rows[:, step:], rows[:, :-step], out=filtered[:, 1 + step :])
    header = struct.pack(">IIBBBBB", width, height, 8 * pixels.itemsize, 4, 0, 0, 0)
    chunks = (_chunk(b"IHDR", header), _chunk(b"IDAT", zlib.compress(filtered, 3)), _chunk(b"IEND", b""))
    return SIGNATURE + b"".join(chunks)


def _chunk(kind: bytes, payload: bytes) -> bytes:
    return b"".join((struct.pack(">I", len(payload)), kind, payload, struct.pack(">I", zlib.crc32(kind + payload))))
