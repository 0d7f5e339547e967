"""AVIF, HEIC and JPEG XL: told by their first bytes, read by Pillow or what extends it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from restore.errors import ImageError
from restore.images.exif import PREFIX, reset_orientation
from restore.images.formats import how_to_read

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

__all__ = ["HEAD_BYTES", "heic_pixels", "kind_of", "open_avif", "open_heic", "open_jpeg_xl", "warn_of_depth"]

HEAD_BYTES = 64  # of a file, in which its kind can be told
_JPEG_XL = (b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n")
_AVIF = (b"avif", b"avis")
_HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_HEADER_BYTES = 1 << 16  # in which the properties of the first image stand
logger = logging.getLogger(__name__)


def kind_of(head: bytes) -> str | None:
    """AVIF, HEIC or JPEG XL, by the first bytes of a file; None for others."""
    if head.startswith(_JPEG_XL):
        return "JPEG XL"
    if head[4:8] != b"ftyp":
        return None
    brands = head[8 : min(len(head), int.from_bytes(head[:4], "big"))]
    if any(brand in brands for brand in _AVIF):
        return "AVIF"
    return "HEIC" if any(brand in brands for brand in _HEIC) else None


def open_avif(file: BinaryIO) -> PillowImage:
    """An AVIF file, not decoded yet.

    Raises:
        ImageError: this Pillow reads none.
    """
    _require("AVIF")
    from PIL.AvifImagePlugin import AvifImageFile

    return AvifImageFile(file)


def open_jpeg_xl(file: BinaryIO) -> PillowImage:
    """A JPEG XL file; its EXIF block says "upright" where its decoder has turned the pixels.

    Raises:
        ImageError: the plugin is not installed.
    """
    _require("JPEG XL")
    from pillow_jxl.JpegXLImagePlugin import JXLImageFile

    image = JXLImageFile(file)
    if not image.jpeg and "exif" in image.info:
        image.info["exif"] = reset_orientation(image.info["exif"].removeprefix(PREFIX))
    return image


def open_heic(file: BinaryIO) -> Any:
    """A HEIC file, not decoded yet: `size` (width, height) and `info`.

    Raises:
        ImageError: the plugin is not installed.
    """
    _require("HEIC")
    import pillow_heif

    return pillow_heif.open_heif(file, convert_hdr_to_8bit=False)


def heic_pixels(opened: Any) -> tuple[np.ndarray, bytes | None, bytes | None]:
    """Upright pixels of 8 or 16 bits of what `open_heic` gave, its ICC profile and its EXIF block."""
    pixels = np.ascontiguousarray(np.asarray(opened))
    exif = reset_orientation((opened.info.get("exif") or b"").removeprefix(PREFIX) or None)
    return pixels, opened.info.get("icc_profile") or None, exif


def warn_of_depth(data: bytes, name: str | Path) -> None:
    """Say where an AVIF file holds more than the 8 bits that Pillow reads of it."""
    _, found, properties = data[:_HEADER_BYTES].partition(b"pixi")
    bits = max(properties[5 : 5 + properties[4]], default=0) if found and len(properties) > 4 else 0
    if bits > 8:
        logger.warning("'%s' holds %d bits: AVIF is read with 8", name, bits)


def _require(name: str) -> None:
    command = how_to_read(name)
    if command:
        raise ImageError(f"{name} is not read here: {command}")
