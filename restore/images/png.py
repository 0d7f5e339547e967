"""PNG: chunks are verified on reading, so that a damaged file is an error; files are written from top to bottom."""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np

try:
    from isal import isal_zlib as fast_zlib  # two to three times as fast; the same results
except ImportError:
    fast_zlib = zlib

from restore.images import compiled
from restore.images import exif as exif_blocks
from restore.images.bounds import check_claim
from restore.images.carried import Carried, text_of_bytes

__all__ = ["SIGNATURE", "Encoder", "Png", "icc_from_chunk", "read"]

SIGNATURE = b"\x89PNG\r\n\x1a\n"
DEFLATE_RATIO = 1032
"""Bytes that one deflated byte can stand for, at the most."""

_MAX_ICC_BYTES = 64 << 20
_MAX_TEXT_BYTES = 16 << 20
_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_COLOURS = (b"cICP", b"gAMA", b"cHRM", b"sRGB")
_XMP = "XML:com.adobe.xmp"
_RAW_PROFILE = "Raw profile type "  # as ImageMagick keeps EXIF, profiles and XMP in text
_METRES_PER_INCH = 0.0254
_STEP_BYTES = 1 << 20
_SHOWN = (b"IHDR", b"PLTE", b"tRNS", b"IDAT")  # the chunks that decide what is seen
_PLAIN = {bytes([8, colour_type, 0, 0, 0]) for colour_type in (0, 2, 4, 6)}  # how the header of a plain file ends
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_PASSES = ((0, 8, 0, 8), (0, 8, 4, 8), (4, 8, 0, 4), (0, 4, 2, 4), (2, 4, 0, 2), (0, 2, 1, 2), (1, 2, 0, 1))
"""First row, step of rows, first column, step of columns of Adam7's seven passes (PNG specification, section 8.2)."""


@dataclass
class Png:
    """The chunks of a PNG file.

    Attributes:
        chunks: the first of each type but the pixel data.
        data: the pixel data; empty where they were passed over.
        texts: type and content of the chunks of text, in order.
        complaints: what is wrong with the file, though its pixels may be whole.
        unfinished: whether the file ends before its last chunk does.
    """

    chunks: dict[bytes, bytes] = field(default_factory=dict)
    data: bytes = b""
    texts: list[tuple[bytes, bytes]] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    unfinished: bool = False

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        width, height = struct.unpack_from(">II", self.chunks[b"IHDR"])
        return height, width

    @property
    def depth(self) -> int:
        """Bits of a sample."""
        return self.chunks[b"IHDR"][8]

    @property
    def colour_type(self) -> int:
        """0 grey, 2 RGB, 3 palette, 4 grey and alpha, 6 RGBA."""
        return self.chunks[b"IHDR"][9]

    @property
    def interlaced(self) -> bool:
        """Whether the rows come in seven passes."""
        return bool(self.chunks[b"IHDR"][12])

    @property
    def num_channels(self) -> int:
        """Channels that are stored: 1 of a palette."""
        return _CHANNELS.get(self.colour_type, 1)

    @property
    def pixel_bits(self) -> int:
        """Bits of a pixel."""
        return self.depth * self.num_channels

    @property
    def is_plain(self) -> bool:
        """Whether the pixels are the inflated rows: whole, 8 bits, no palette, passes, frames or transparent colour."""
        special = self.unfinished or b"tRNS" in self.chunks or b"acTL" in self.chunks
        plain = self.chunks[b"IHDR"][8:] in _PLAIN and min(self.size) > 0
        return plain and not special

    def decoded(self, num_rows: int) -> np.ndarray | None:
        """The first rows of a plain file, (num_rows, W) or (num_rows, W, C).

        None where the library of `restore.images.compiled` is absent, or the data are damaged.
        """
        width, channels = self.size[1], self.num_channels
        needed = num_rows * (1 + width * channels)
        try:
            inflated = fast_zlib.decompressobj().decompress(self.data, needed)
            if len(inflated) < needed:
                return None
            rows = compiled.unfiltered(inflated, num_rows, width * channels, channels)
        except (zlib.error, fast_zlib.error, ValueError):
            return None
        return rows if rows is None or channels == 1 else rows.reshape(num_rows, width, channels)

    def metadata(self) -> tuple[bytes | None, bytes | None, Carried]:
        """The ICC profile, the EXIF block, and what else the file says."""
        texts = dict(filter(None, (_text_of(*text) for text in self.texts)))
        raw = {
            key.removeprefix(_RAW_PROFILE).lower(): _raw_profile(texts.pop(key))
            for key in list(texts)
            if key.startswith(_RAW_PROFILE)
        }
        exif = self.chunks.get(b"eXIf") or raw.get("exif") or raw.get("app1")
        icc = icc_from_chunk(self.chunks.get(b"iCCP")) or raw.get("icc") or raw.get("icm")
        xmp = texts.pop(_XMP, "").encode() or raw.get("xmp")
        density, found = None, self.chunks.get(b"pHYs", b"")
        if len(found) == 9 and found[8] < 2:
            across, down, metres = struct.unpack(">IIB", found)
            dots = (across * _METRES_PER_INCH, down * _METRES_PER_INCH) if metres else (across, down)
            density = exif_blocks.density(*dots, unit=2 if metres else 1)
        colour = tuple((kind, self.chunks[kind]) for kind in _COLOURS if kind in self.chunks)
        left = ("IPTC and Photoshop data",) if {"iptc", "8bim"} & set(raw) else ()
        exif = exif.removeprefix(exif_blocks.PREFIX) if exif else None
        density = density or exif_blocks.density_of(exif)
        return icc, exif, Carried(density, xmp or None, tuple(texts.items()), colour, left)

    def check_claim(self, held_bytes: int) -> None:
        """Refuse a header that claims more than `held_bytes` of deflated data can hold.

        Raises:
            ValueError: see `restore.images.bounds.check_claim`.
        """
        check_claim(*self.size, self.pixel_bits / 8, held_bytes, DEFLATE_RATIO)

    def check_whole(self) -> None:
        """Inflate the pixel data, and refuse them if rows are missing.

        Raises:
            ValueError: says how many bytes there are, and how many there should be.
        """
        height, width = self.size
        steps = _PASSES if self.interlaced else ((0, 1, 0, 1),)
        needed = 0
        for row, row_step, column, column_step in steps:
            columns = math.ceil((width - column) / column_step)
            rows = math.ceil((height - row) / row_step)
            if columns > 0 and rows > 0:
                needed += rows * (1 + math.ceil(columns * self.pixel_bits / 8))
        found = _inflated_bytes(self.data, needed)
        if found < needed:
            raise ValueError(f"the file is truncated (its pixel data end after {found} of {needed} bytes)")

    def plain(self) -> bytes:
        """A whole file of nothing but what decides the pixels, which no reader can stumble over."""
        kept = [(kind, self.chunks[kind]) for kind in _SHOWN if kind in self.chunks]
        return _file([*kept, (b"IDAT", self.data)])


def read(file: BinaryIO, *, pixels: bool = True) -> Png:
    """The chunks of a file, from its start.

    A wrong checksum of a chunk that does not change the pixels, or a missing end, is a complaint.

    Args:
        file: a PNG file.
        pixels: keep the pixel data, and verify them; otherwise they are passed over.

    Raises:
        ValueError: there is no header, or the checksum of a chunk that decides the pixels is wrong.
    """
    png, data = Png(), []
    file.seek(len(SIGNATURE))
    while True:
        head = file.read(8)
        if len(head) < 8:
            png.unfinished = True
            break
        length, kind = struct.unpack(">I4s", head)
        name = kind.decode("latin-1")
        if kind == b"IDAT" and not pixels:
            file.seek(length + 4, 1)
            continue
        body = memoryview(file.read(length + 4))
        payload, checksum = body[:length], body[length:]
        if len(checksum) < 4:
            png.unfinished = True
            if kind == b"IDAT":
                data.append(payload)
            break
        if fast_zlib.crc32(payload, zlib.crc32(kind)) != int.from_bytes(checksum, "big"):
            if kind in _SHOWN:
                raise ValueError(f"the file is damaged (wrong checksum in its {name} chunk)")
            png.complaints.append(f"wrong checksum in its {name} chunk")
        elif kind == b"IDAT":
            data.append(payload)
        elif kind in _TEXTS:
            png.texts.append((kind, bytes(payload)))
        else:
            png.chunks.setdefault(kind, bytes(payload))
        if kind == b"IEND":
            break
    if len(png.chunks.get(b"IHDR", b"")) != 13:
        raise ValueError("the file is truncated (before its header ends)" if png.unfinished else "there is no header")
    if png.unfinished:
        png.complaints.append("its end is missing")
    png.data = b"".join(data)
    return png


def _inflated_bytes(data: bytes, most: int) -> int:
    """How many bytes come out of deflated data, counted up to `most`; never all in memory."""
    count, inflate = 0, zlib.decompressobj()
    try:
        while data and count < most and not inflate.eof:
            count += len(inflate.decompress(data, _STEP_BYTES))
            data = inflate.unconsumed_tail
        while count < most and (more := inflate.decompress(b"", _STEP_BYTES)):
            count += len(more)
    except zlib.error:  # what came out until then is what a reader shows
        pass
    return min(count, most)


def icc_from_chunk(chunk: bytes | None) -> bytes | None:
    """The profile in an iCCP chunk; None if it cannot be unpacked."""
    if not chunk:
        return None
    packed = chunk[chunk.find(b"\0") + 2 :]
    try:
        return zlib.decompressobj().decompress(packed, _MAX_ICC_BYTES) or None
    except zlib.error:
        return None


def _text_of(kind: bytes, chunk: bytes) -> tuple[str, str] | None:
    """Keyword and text; None where it cannot be unpacked, or is larger than anybody writes."""
    key, _, rest = chunk.partition(b"\0")
    compressed = kind == b"zTXt"
    rest = rest[1:] if compressed else rest
    if kind == b"iTXt":
        compressed = rest[:1] == b"\1"
        rest = rest[2:].split(b"\0", 2)[-1]
    if compressed:
        try:
            inflate = zlib.decompressobj()
            rest = inflate.decompress(rest, _MAX_TEXT_BYTES)
        except zlib.error:
            return None
        if inflate.unconsumed_tail:
            return None
    text = text_of_bytes(rest) if kind == b"iTXt" else rest.decode("latin-1")
    return key.decode("latin-1"), text


def _raw_profile(text: str) -> bytes | None:
    """A block in hexadecimal digits, after its name and length."""
    try:
        return bytes.fromhex("".join(text.split()[2:]))
    except ValueError:
        return None


class Encoder:
    """Writes a PNG file from top to bottom; what it carries stands right after its header.

    Rows have the filter "Sub" and are deflated with run lengths and Huffman codes only (`Z_RLE`). Files of photographs
    are as small as at zlib's level 3, and take half the time.

    Args:
        file: where to.
        shape: (H, W) or (H, W, C) of the image, 1 to 4 channels.
        depth: uint8 or uint16.
        icc: the ICC profile.
        exif: the EXIF block.
        carried: what else the file says.
    """

    def __init__(
        self,
        file: BinaryIO,
        shape: Sequence[int],
        depth: np.dtype[Any],
        icc: bytes | None,
        exif: bytes | None,
        carried: Carried,
    ):
        height, width, *channels = shape
        colour_type = {1: 0, 2: 4, 3: 2, 4: 6}[channels[0] if channels else 1]
        header = struct.pack(">IIBBBBB", width, height, 8 * depth.itemsize, colour_type, 0, 0, 0)
        self._file, self._pixel_bytes = file, (channels[0] if channels else 1) * depth.itemsize
        self._deflate = zlib.compressobj(1, zlib.DEFLATED, zlib.MAX_WBITS, zlib.DEF_MEM_LEVEL, zlib.Z_RLE)
        file.write(SIGNATURE + b"".join(_chunk(*each) for each in [(b"IHDR", header), *_metadata(icc, exif, carried)]))

    def write(self, rows: np.ndarray) -> None:
        """The next rows."""
        step = max(1, _STEP_BYTES // (rows.shape[1] * self._pixel_bytes))
        for first in range(0, len(rows), step):
            self._put(self._deflate.compress(_filtered(rows[first : first + step], self._pixel_bytes)))

    def finish(self) -> None:
        """What follows the last row."""
        self._put(self._deflate.flush())
        self._file.write(_chunk(b"IEND", b""))

    def _put(self, data: bytes) -> None:
        if data:
            self._file.write(_chunk(b"IDAT", data))


def _filtered(rows: np.ndarray, pixel_bytes: int) -> np.ndarray:
    """(H, 1 + W * pixel_bytes) uint8: rows in big-endian order under the filter "Sub", whose number precedes each."""
    height, width = rows.shape[:2]
    samples = rows.astype(rows.dtype.newbyteorder(">"), order="C", copy=False).view(np.uint8)
    flat = samples.reshape(height, width * pixel_bytes)
    filtered = np.empty((height, 1 + width * pixel_bytes), np.uint8)
    filtered[:, 0] = 1
    filtered[:, 1 : 1 + pixel_bytes] = flat[:, :pixel_bytes]
    np.subtract(flat[:, pixel_bytes:], flat[:, :-pixel_bytes], out=filtered[:, 1 + pixel_bytes :])
    return filtered


def _metadata(icc: bytes | None, exif: bytes | None, carried: Carried) -> list[tuple[bytes, bytes]]:
    """The chunks that say what a file carries."""
    chunks = list(carried.colour)
    if icc:
        chunks.append((b"iCCP", b"ICC profile\0\0" + zlib.compress(icc)))
    if carried.density:
        per_unit = _METRES_PER_INCH if carried.density[2] else 1
        dots = (min(round(each / per_unit), (1 << 32) - 1) for each in carried.density[:2])
        chunks.append((b"pHYs", struct.pack(">IIB", *dots, carried.density[2])))
    if exif:
        chunks.append((b"eXIf", exif))
    if carried.xmp:
        chunks.append((b"iTXt", _XMP.encode() + bytes(5) + carried.xmp))
    return chunks + [_text_chunk(*text) for text in carried.text]


def _text_chunk(key: str, text: str) -> tuple[bytes, bytes]:
    name = key.encode("latin-1", "replace")[:79] or b"Comment"
    try:
        return b"tEXt", name + b"\0" + text.encode("latin-1")
    except UnicodeEncodeError:
        return b"iTXt", name + bytes(5) + text.encode()


def _file(chunks: Iterable[tuple[bytes, bytes]]) -> bytes:
    return b"".join((SIGNATURE, *(_chunk(*chunk) for chunk in chunks), _chunk(b"IEND", b"")))


def _chunk(kind: bytes, payload: bytes) -> bytes:
    return b"".join(
        (struct.pack(">I", len(payload)), kind, payload, struct.pack(">I", zlib.crc32(payload, zlib.crc32(kind))))
    )
