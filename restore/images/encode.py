"""From an `Image` to the bytes of a file, in the format that the file name's ending asks for.

Nothing is lost in silence: what a format cannot hold is an error that names the formats that can. The exceptions are
harmless and stated: WebP stores grey as equal RGB, BMP grey with alpha as RGBA, and what a file carries beside its
pixels and a format does not hold is said once (docs/carried.md).
"""

from __future__ import annotations

import io
import logging
import struct
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from restore.errors import ImageError
from restore.images import jpeg, png, tiff
from restore.images.carried import Carried, say_left_behind, xmp_of_size
from restore.images.exif import PREFIX, is_readable, with_density, with_size
from restore.images.formats import Format, check_fits, format_for
from restore.images.image import Image

__all__ = ["encode_image"]

logger = logging.getLogger(__name__)

_MAX_SEGMENT_BYTES = 65_500  # of JPEG
_SRGB_GAMMA = (45455).to_bytes(4, "big")
_WORDS = {
    "profile": "the ICC profile",
    "EXIF": "the EXIF block",
    "resolution": "the resolution",
    "XMP": "the XMP packet",
    "text": "text",
    "colour": "what the chunks gAMA, cHRM, sRGB or cICP say of the colours",
}


def encode_image(image: Image | np.ndarray, suffix: str, *, quality: int = 95, lossless: bool = False) -> bytes:
    """The bytes of an image file.

    Args:
        image: pixels, or pixels with their ICC profile and EXIF block.
        suffix: ".png", ".jpg", ".tif", ".webp", ".bmp" ...
        quality: of lossy formats, 1 to 100. JPEG keeps colour at full resolution (4:4:4).
        lossless: refuse to lose anything: WebP is written lossless, JPEG is an error.

    Raises:
        ImageError: no such format, or it cannot hold the depth, the alpha channel or the size.
    """
    if isinstance(image, np.ndarray):
        image = Image(image)
    check_fits(suffix, image.pixels.shape, image.pixels.dtype.name, lossless=lossless)
    fmt = format_for(suffix)
    if not 1 <= quality <= 100:
        raise ImageError(f"quality is {quality}; must be 1 to 100")
    image = _fitting(image, fmt)
    try:
        return _ENCODERS[fmt.name](image, quality, lossless)
    except (OSError, ValueError) as error:
        height, width = image.pixels.shape[:2]
        raise ImageError(f"a {height}x{width} image cannot be encoded as {fmt.name}: {error}") from error


def _fitting(image: Image, fmt: Format) -> Image:
    """The image with what the format holds, sizes set to its own; what is left behind is said once."""
    height, width = image.pixels.shape[:2]
    carried, icc = image.carried, image.icc
    for what in carried.left:
        say_left_behind(f"{what} of {_source(image)}")
    stored_space = b"GRAY" if image.channels < 3 and fmt.grey else b"RGB "
    if icc and icc[16:20] in (b"GRAY", b"RGB ", b"CMYK") and icc[16:20] != stored_space:
        logger.warning("an ICC profile for %s does not fit this image: it is not written", icc[16:20].decode().strip())
        icc = None
    colour = () if _is_srgb(dict(carried.colour)) and "colour" not in fmt.carries else carried.colour
    held = {
        "profile": icc,
        "EXIF": with_size(image.exif, height, width),
        "resolution": carried.density,
        "XMP": xmp_of_size(carried.xmp, height, width),
        "text": carried.text,
        "colour": colour,
    }
    for kind, words in _WORDS.items():
        if held[kind] and (reason := _why_not(kind, held[kind], fmt)):
            say_left_behind(f"{words} of {_source(image)}: {reason}")
            held[kind] = None
    kept = Carried(held["resolution"], held["XMP"], held["text"] or (), held["colour"] or ())
    return replace(image, icc=held["profile"], exif=held["EXIF"], carried=kept)


def _why_not(kind: str, value: Any, fmt: Format) -> str:
    """Why a format does not hold it; empty if it does."""
    if kind not in fmt.carries:
        return f"{fmt.name} holds none"
    if kind == "EXIF" and not is_readable(value):
        return "it is damaged"
    if kind == "resolution" and not value[2] and fmt.name == "BMP":
        return "BMP holds no ratio"
    blocks = {"EXIF": lambda: value, "XMP": lambda: value, "text": lambda: _comment(value)}
    if fmt.name == "JPEG" and kind in blocks and len(blocks[kind]()) > _MAX_SEGMENT_BYTES:
        return f"JPEG holds at most {_MAX_SEGMENT_BYTES} bytes of it"
    return ""


def _comment(text: Sequence[tuple[str, str]]) -> bytes:
    """Keywords and texts as the one comment of a JPEG file."""
    return "\n".join(each if key == "Comment" else f"{key}: {each}" for key, each in text).encode()


def _is_srgb(colour: dict[bytes, bytes]) -> bool:
    """Whether these chunks say no more than what is taken for granted."""
    return set(colour) <= {b"sRGB", b"gAMA", b"cHRM"} and (b"sRGB" in colour or colour.get(b"gAMA") == _SRGB_GAMMA)


def _source(image: Image) -> str:
    suffix = image.path.suffix.lower().lstrip(".") if image.path else ""
    return f"{suffix} files" if suffix else "an image"


def _encode_png(image: Image, quality: int, lossless: bool) -> bytes:
    pixels = image.pixels
    encoded = png.encode_grey_alpha(pixels) if image.channels == 2 else _encode_with_opencv(".png", pixels)
    return png.add_metadata(encoded, image.icc, image.exif, image.carried)


def _encode_tiff(image: Image, quality: int, lossless: bool) -> bytes:
    return tiff.encode(image.pixels, image.icc, image.exif, image.carried)


def _encode_bmp(image: Image, quality: int, lossless: bool) -> bytes:
    encoded = bytearray(_encode_with_opencv(".bmp", _as_rgba(image.pixels)))
    if image.carried.density:
        per_metre = (min(round(dots / 0.0254), (1 << 31) - 1) for dots in image.carried.density[:2])
        struct.pack_into("<ii", encoded, 38, *per_metre)
    return bytes(encoded)


def _encode_jpeg(image: Image, quality: int, lossless: bool) -> bytes:
    options = {"quality": quality, "subsampling": 0, "icc_profile": image.icc}
    encoded = _encode_with_pillow(
        image.pixels,
        "JPEG",
        exif=PREFIX + image.exif if image.exif else b"",
        xmp=image.carried.xmp,
        comment=_comment(image.carried.text),
        **options,
    )
    return jpeg.with_density(encoded, image.carried.density) if image.carried.density else encoded


def _encode_webp(image: Image, quality: int, lossless: bool) -> bytes:
    return _encode_with_pillow(
        _as_rgba(image.pixels),
        "WEBP",
        quality=quality,
        lossless=lossless,
        exact=lossless,
        icc_profile=image.icc or b"",
        exif=with_density(image.exif, image.carried.density) or b"",
        xmp=image.carried.xmp or b"",
    )


def _encode_with_opencv(suffix: str, pixels: np.ndarray) -> bytes:
    import cv2

    if pixels.ndim == 3:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_RGBA2BGRA if pixels.shape[2] == 4 else cv2.COLOR_RGB2BGR)
    try:
        done, encoded = cv2.imencode(suffix, pixels)
    except cv2.error as error:
        raise ValueError(str(error)) from error
    if not done:
        raise ValueError("the encoder failed")
    return encoded.tobytes()


def _encode_with_pillow(pixels: np.ndarray, name: str, **options: object) -> bytes:
    from PIL import Image as PillowImage

    file = io.BytesIO()
    PillowImage.fromarray(np.ascontiguousarray(pixels)).save(file, name, **options)
    return file.getvalue()


def _as_rgba(pixels: np.ndarray) -> np.ndarray:
    """Grey with alpha as RGBA; anything else as it is."""
    return pixels[:, :, [0, 0, 0, 1]] if pixels.ndim == 3 and pixels.shape[2] == 2 else pixels


_ENCODERS = {
    "PNG": _encode_png,
    "JPEG": _encode_jpeg,
    "TIFF": _encode_tiff,
    "WebP": _encode_webp,
    "BMP": _encode_bmp,
}
