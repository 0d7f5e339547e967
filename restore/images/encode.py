"""From an `Image` to the bytes of a file, in the format that the file name's ending asks for.

Nothing is lost in silence: what a format cannot hold is an error that names the formats that can. The exceptions are
harmless and stated: WebP stores grey as equal RGB, BMP grey with alpha as RGBA, and metadata that does not fit is
dropped with a warning.
"""

from __future__ import annotations

import io
import logging

import numpy as np

from restore.errors import ImageError
from restore.images import png, tiff
from restore.images.exif import PREFIX
from restore.images.formats import Format, check_fits, format_for
from restore.images.image import Image

__all__ = ["encode_image"]

logger = logging.getLogger(__name__)


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
    icc, exif = _fitting_metadata(image, fmt)
    try:
        return _ENCODERS[fmt.name](image, icc, exif, quality, lossless)
    except (OSError, ValueError) as error:
        height, width = image.pixels.shape[:2]
        raise ImageError(f"a {height}x{width} image cannot be encoded as {fmt.name}: {error}") from error


def _fitting_metadata(image: Image, fmt: Format) -> tuple[bytes | None, bytes | None]:
    """The profile and the EXIF block, without what cannot be stored."""
    if not fmt.metadata:
        if image.icc or image.exif:
            logger.warning("%s holds no ICC profile and no EXIF: they are not written", fmt.name)
        return None, None
    icc = image.icc
    stored_space = b"GRAY" if image.channels < 3 and fmt.grey else b"RGB "
    if icc and icc[16:20] in (b"GRAY", b"RGB ", b"CMYK") and icc[16:20] != stored_space:
        logger.warning("an ICC profile for %s does not fit this image: it is not written", icc[16:20].decode().strip())
        icc = None
    return icc, image.exif


def _encode_png(image: Image, icc: bytes | None, exif: bytes | None, quality: int, lossless: bool) -> bytes:
    pixels = image.pixels
    encoded = png.encode_grey_alpha(pixels) if image.channels == 2 else _encode_with_opencv(".png", pixels)
    return png.add_metadata(encoded, icc, exif)


def _encode_tiff(image: Image, icc: bytes | None, exif: bytes | None, quality: int, lossless: bool) -> bytes:
    return tiff.encode(image.pixels, icc, exif)


def _encode_bmp(image: Image, icc: bytes | None, exif: bytes | None, quality: int, lossless: bool) -> bytes:
    return _encode_with_opencv(".bmp", _as_rgba(image.pixels))


def _encode_jpeg(image: Image, icc: bytes | None, exif: bytes | None, quality: int, lossless: bool) -> bytes:
    exif = PREFIX + exif if exif else b""
    return _encode_with_pillow(image.pixels, "JPEG", quality=quality, subsampling=0, icc_profile=icc, exif=exif)


def _encode_webp(image: Image, icc: bytes | None, exif: bytes | None, quality: int, lossless: bool) -> bytes:
    return _encode_with_pillow(
        _as_rgba(image.pixels),
        "WEBP",
        quality=quality,
        lossless=lossless,
        exact=lossless,
        icc_profile=icc or b"",
        exif=exif or b"",
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
