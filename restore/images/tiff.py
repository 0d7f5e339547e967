"""TIFF: what it says about itself, the layouts that Pillow does not read, and writing any depth with ICC and EXIF.

Pillow decodes 8-bit files, `segments` 16-bit and float ones. Files are written from top to bottom, in deflated strips.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from restore.images.bounds import check_claim
from restore.images.carried import Carried
from restore.images.exif import PREFIX, density
from restore.images.image import checked
from restore.images.segments import Segments
from restore.images.strips import Strips

if TYPE_CHECKING:
    import tifffile
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

__all__ = [
    "UNKNOWN_TO_PILLOW",
    "Encoder",
    "TiffHeader",
    "decode_deep",
    "map_pixels",
    "read_header",
    "read_size",
    "without_orientation",
]

_ORIENTATION, _EXIF_IFD, _GPS_IFD, _INTEROP_IFD = 274, 34665, 34853, 40965
_DESCRIPTION, _X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT, _XMP, _EXTRA_SAMPLES = 270, 282, 283, 296, 700, 338
_LEFT = {
    **dict.fromkeys((33550, 33922, 34264, 34735), "the place on Earth (GeoTIFF)"),
    **dict.fromkeys((33723, 34377), "IPTC and Photoshop data"),
}
_OF_THE_OLD_FILE = (("ImageJ=", "the description of ImageJ"), ("<OME", "the description of OME-TIFF"))
UNKNOWN_TO_PILLOW = b"MM\0+"
"""How a BigTIFF of the other byte order begins."""

_RESOLUTIONS = (_X_RESOLUTION, _Y_RESOLUTION)
_DESCRIPTIVE_TAGS = (270, 271, 272, 274, 282, 283, 296, 305, 306, 315, 33432, _EXIF_IFD, _GPS_IFD)
_STRIP_BYTES = 1 << 22
_MOST_CLASSIC = (1 << 32) - (1 << 27)  # bytes of pixels; offsets have 32 bits, and other blocks are before them


@dataclass(frozen=True)
class TiffHeader:
    """What the first page of a TIFF file declares."""

    height: int
    width: int
    dtype: str
    orientation: int
    icc: bytes | None
    exif: bytes | None
    num_pages: int
    carried: Carried


def read_header(data: bytes) -> TiffHeader:
    """The declarations of a TIFF file, without decoding it.

    Raises:
        ValueError: it is not a TIFF file, its pixel data are not all there, or it claims more than is read.
    """
    with _opened(io.BytesIO(data)) as (file, page):
        Segments(page, data)
        orientation = page.tags.get(_ORIENTATION)
        icc = page.tags.get(34675)
        return TiffHeader(
            page.imagelength,
            page.imagewidth,
            "uint8" if page.dtype is None or page.bitspersample <= 8 else page.dtype.name,
            orientation.value if orientation else 1,
            bytes(icc.value) if icc else None,
            _exif_of(data, file),
            len(file.pages),
            _carried_by(page),
        )


def read_size(file: BinaryIO, num_bytes: int) -> tuple[int, int, int]:
    """Height, width and orientation.

    Raises:
        ValueError: there is no page, or it claims more than is read.
    """
    file.seek(0)
    with _opened(file) as (_, page):
        check_claim(
            page.imagelength, page.imagewidth, page.samplesperpixel * page.bitspersample / 8, num_bytes, 1 << 16
        )
        orientation = page.tags.get(_ORIENTATION)
        return page.imagelength, page.imagewidth, orientation.value if orientation else 1


@contextlib.contextmanager
def _opened(source: BinaryIO | Path) -> Iterator[tuple[tifffile.TiffFile, tifffile.TiffPage]]:
    """A file and its first page.

    Raises:
        ValueError: there is none.
    """
    import tifffile

    with tifffile.TiffFile(source) as file:
        try:
            page = file.pages[0]
        except IndexError:
            raise ValueError("the file is truncated (where its directory should be there is nothing)") from None
        yield file, page


def map_pixels(path: Path) -> np.ndarray | None:
    """The pixels of an uncompressed file as they lie in it: slicing reads only the pages of the slice.

    Returns:
        a read-only (H, W) or (H, W, C) of uint8 or uint16; None where decoding would give anything else, or
        the file is none that can be mapped.
    """
    import tifffile

    try:
        with _opened(path) as (file, page):
            plain = page.is_memmappable and page.photometric in (1, 2) and page.axes in ("YX", "YXS")
            turned = page.tags.get(_ORIENTATION)
            if not plain or len(file.pages) > 1 or (turned and turned.value != 1) or page.bitspersample < 8:
                return None
            end = page.dataoffsets[0] + page.nbytes
        if path.stat().st_size < end:
            return None  # truncated: decoding says so
        pixels = checked(np.asarray(tifffile.memmap(path, mode="r")))
    except Exception:  # whatever is wrong with a file, decoding it says so
        return None
    return pixels if pixels.dtype.isnative and pixels.dtype.name in ("uint8", "uint16") else None


def decode_deep(data: bytes) -> np.ndarray:
    """The first page of a 16-bit or float file as it is stored (orientation not applied).

    Raises:
        ValueError: its colour space or its compression is not known, or its pixel data are damaged.
    """
    with _opened(io.BytesIO(data)) as (_, page):
        photometric = page.photometric
        if photometric not in (0, 1, 2) or page.axes not in ("YX", "YXS", "SYX"):
            raise ValueError(f"a {page.dtype} TIFF with photometric interpretation {photometric} is not supported")
        if page.bitspersample != 8 * page.dtype.itemsize:
            raise ValueError(f"TIFF samples of {page.bitspersample} bits are not supported")
        pixels = _without_extra(Segments(page, data).pixels(), *_layout(page))
    if photometric == 0:  # white is zero
        pixels = (1 if pixels.dtype.kind == "f" else np.iinfo(pixels.dtype).max) - pixels
    return np.ascontiguousarray(pixels, dtype=pixels.dtype.newbyteorder("="))


def without_orientation(data: bytes) -> bytes:
    """The same file, declared upright: OpenCV and Pillow would turn some layouts by themselves."""
    with _opened(io.BytesIO(data)) as (file, page):
        tag = page.tags.get(_ORIENTATION)
        if tag is None:
            return data
        changed = bytearray(data)
        struct.pack_into(f"{file.byteorder}H", changed, tag.valueoffset, 1)
        return bytes(changed)


class Encoder:
    """Writes a TIFF file from top to bottom: deflated strips, with the horizontal predictor for integers.

    With more than 4 GiB of pixels it is a BigTIFF. The directory comes first; the places of the strips are written into
    it at the end.

    Args:
        file: where to; it can be written at any place.
        shape: (H, W) or (H, W, C) of the image, 1 to 4 channels.
        depth: uint8, uint16 or float32.
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
        height, width, channels = shape[0], shape[1], shape[2] if len(shape) > 2 else 1
        row_bytes = width * channels * depth.itemsize
        strip_rows = min(height, max(1, _STRIP_BYTES // row_bytes))
        self._file, self._strips = file, Strips(strip_rows)
        self._lengths = [0] * -(-height // strip_rows)
        self._written = 0
        self._directory = directory = _directory(height * row_bytes > _MOST_CLASSIC)
        _copy_exif(exif, directory)
        directory[256], directory[257] = width, height
        directory[258] = (8 * depth.itemsize,) * channels
        directory[259] = 8  # deflate
        directory[262] = 2 if channels > 2 else 1
        directory[277], directory[278] = channels, strip_rows
        directory[317] = 1 if depth.kind == "f" else 2
        directory[339] = (3 if depth.kind == "f" else 1,) * channels
        if channels in (2, 4):
            directory[_EXTRA_SAMPLES] = 2  # alpha, not multiplied in
        _describe(directory, icc, carried)
        self._file.write(self._head())

    def write(self, rows: np.ndarray) -> None:
        """The next rows."""
        for strip in self._strips.cut(rows):
            self._put(strip)

    def finish(self) -> None:
        """What follows the last row."""
        for strip in self._strips.rest():
            self._put(strip)
        self._file.seek(0)
        self._file.write(self._head())

    def _put(self, strip: np.ndarray) -> None:
        samples = strip if strip.dtype.kind == "f" else _differences(strip)
        data = zlib.compress(samples.astype(strip.dtype.newbyteorder("<"), order="C", copy=False), 3)
        self._file.write(data)
        self._lengths[self._written] = len(data)
        self._written += 1

    def _head(self) -> bytes:
        """Header and directory, which is as long whatever the lengths of the strips are."""
        self._directory[273] = tuple(itertools.accumulate(self._lengths[:-1], initial=0))  # it adds its own length
        self._directory[279] = tuple(self._lengths)
        head = io.BytesIO()
        self._directory.save(head)
        return head.getvalue()


def _directory(is_big: bool) -> ImageFileDirectory_v2:
    """An empty directory of a file in little-endian order; of a BigTIFF, whose strips lie at places of 64 bits."""
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    directory = ImageFileDirectory_v2(b"II+\0\x08\0\0\0" + bytes(8) if is_big else b"II*\0" + bytes(4))
    for tag in (273, 279):
        directory.tagtype[tag] = 16 if is_big else 4
    return directory


def _describe(directory: ImageFileDirectory_v2, icc: bytes | None, carried: Carried) -> None:
    """Put resolution, profile and XMP into a directory."""
    from PIL.TiffImagePlugin import IFDRational

    if carried.density:
        for tag, dots in ((_X_RESOLUTION, carried.density[0]), (_Y_RESOLUTION, carried.density[1])):
            exact = Fraction(dots).limit_denominator(1000)
            directory[tag] = IFDRational(exact.numerator, exact.denominator)
        directory[_RESOLUTION_UNIT] = 2 if carried.density[2] else 1
    for tag, block in ((34675, icc), (_XMP, carried.xmp)):
        if block:
            directory.tagtype[tag] = 7 if tag == 34675 else 1
            directory[tag] = block


def _differences(pixels: np.ndarray) -> np.ndarray:
    differences = pixels.copy()
    np.subtract(pixels[:, 1:], pixels[:, :-1], out=differences[:, 1:])
    return differences


def _carried_by(page: tifffile.TiffPage) -> Carried:
    """What the tags say beside the EXIF block, and what they say that is not carried over."""

    def value(tag: int) -> Any:
        found = page.tags.get(tag)
        return found.value if found else None

    across, down = (found[0] / found[1] if found and found[1] else None for found in map(value, _RESOLUTIONS))
    left = [words for tag, words in _LEFT.items() if value(tag) is not None]
    left += [words for mark, words in _OF_THE_OLD_FILE if mark in str(value(_DESCRIPTION) or "")]
    left += ["the EXIF tags"] if page.parent.is_bigtiff and page.parent.byteorder == ">" else []
    colours, has_alpha, _ = _layout(page)
    if page.samplesperpixel > colours + has_alpha:
        left.append("channels beyond colour and alpha")
    xmp, unit = value(_XMP), value(_RESOLUTION_UNIT)
    return Carried(
        density(across, down, 2 if unit is None else int(unit)),
        (bytes(xmp) if not isinstance(xmp, str) else xmp.encode()) if xmp else None,
        left=tuple(dict.fromkeys(left)),
    )


def _layout(page: tifffile.TiffPage) -> tuple[int, bool, bool]:
    """The number of channels of colour, whether alpha follows them, and whether it is multiplied into them."""
    colours = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4}.get(int(page.photometric), page.samplesperpixel)
    tag = page.tags.get(_EXTRA_SAMPLES)
    kinds = (tag.value,) if tag and isinstance(tag.value, int) else tuple(tag.value) if tag else ()
    has_alpha = page.samplesperpixel > colours and (kinds[0] in (1, 2) if kinds else True)
    return colours, has_alpha, has_alpha and kinds[:1] == (1,)


def _without_extra(pixels: np.ndarray, colours: int, has_alpha: bool, multiplied: bool) -> np.ndarray:
    """Colour and alpha, which is taken out of the colours where it is multiplied into them."""
    if pixels.ndim == 2:
        return pixels
    pixels = pixels[..., : colours + has_alpha]
    if multiplied:
        white = 1.0 if pixels.dtype.kind == "f" else float(np.iinfo(pixels.dtype).max)
        alpha = pixels[..., colours:].astype(np.float64)
        colour = pixels[..., :colours] * white / np.where(alpha > 0, alpha, np.inf)
        colour = np.minimum(colour if white == 1 else np.rint(colour), white)
        pixels = np.concatenate([colour.astype(pixels.dtype), pixels[..., colours:]], axis=2)
    return pixels[..., 0] if pixels.shape[2] == 1 else pixels


def _describes_layout(description: object) -> bool:
    """Whether an image description is about the file that it stands in: tifffile's shape, ImageJ's, OME's."""
    text = str(description)
    return text.startswith('{"shape":') or any(mark in text for mark, _ in _OF_THE_OLD_FILE)


def _exif_of(data: bytes, file: tifffile.TiffFile) -> bytes | None:
    """The descriptive tags of the first directory as an EXIF block of their own."""
    from PIL.Image import Exif

    if data.startswith(UNKNOWN_TO_PILLOW):
        return None
    tags, kept = Exif(), Exif()
    tags.bigtiff, tags.endian = file.is_bigtiff, file.byteorder
    tags.load_from_fp(io.BytesIO(data), file.pages[0].offset)
    for tag in _DESCRIPTIVE_TAGS:
        if tag in tags and not (tag == _DESCRIPTION and _describes_layout(tags[tag])):
            kept[tag] = dict(tags.get_ifd(tag)) if tag in (_EXIF_IFD, _GPS_IFD) else tags[tag]
    return kept.tobytes()[len(PREFIX) :] if len(kept) else None


def _copy_exif(exif: bytes | None, directory: ImageFileDirectory_v2) -> None:
    if not exif:
        return
    from PIL.Image import Exif

    tags = Exif()
    tags.load(PREFIX + exif)
    for tag in _DESCRIPTIVE_TAGS:
        if tag in (_EXIF_IFD, _GPS_IFD):
            nested = {key: value for key, value in tags.get_ifd(tag).items() if key != _INTEROP_IFD}
            if nested:
                directory[tag] = nested
        elif tag in tags:
            directory[tag] = tags[tag]
