"""Pillow's images as pixels, and pixels as Pillow's images."""

from __future__ import annotations

import contextlib
import io
import logging
import threading
from collections.abc import Iterator

import numpy as np
import PIL.Image
from PIL.Image import Image as PillowImage

from restore.errors import ImageError
from restore.images.image import Image

__all__ = ["from_pillow", "pixels_of", "to_pillow", "without_pillows_bound"]

DEEP_MODES = ("I;16", "I;16L", "I;16B", "I;16N", "I", "F")
logger = logging.getLogger(__name__)
_lock = threading.Lock()
_lifted: list[int | None] = []
"""Pillow's own bound, once for each reader at work."""


@contextlib.contextmanager
def without_pillows_bound() -> Iterator[None]:
    """Let Pillow decode images of any size: it refuses those above 179 megapixels, whatever their bytes hold.

    How much a file may claim is compared with its bytes by its reader (`restore.images.bounds`). Pillow's bound is one
    number for the process: it is put back when the last of several readers has ended.
    """
    with _lock:
        _lifted.append(_lifted[0] if _lifted else PIL.Image.MAX_IMAGE_PIXELS)
        PIL.Image.MAX_IMAGE_PIXELS = None
    try:
        yield
    finally:
        with _lock:
            bound = _lifted.pop()
            if not _lifted:
                PIL.Image.MAX_IMAGE_PIXELS = bound


def from_pillow(image: PillowImage) -> Image:
    """A Pillow image of any mode, its pixels as they are stored: grey of 16 bits and floats (in [0, 1]) keep depth.

    Raises:
        ImageError: its mode is not supported, or its values do not fit 16 bits.
    """
    icc = image.info.get("icc_profile")
    if image.mode not in DEEP_MODES:
        return Image(*pixels_of(image, icc))
    pixels = np.asarray(image)
    if image.mode == "F":
        return Image(pixels.astype(np.float32), icc)
    if pixels.size and not 0 <= pixels.min() <= pixels.max() <= 65535:
        raise ImageError(f"a Pillow image of mode {image.mode} holds values beyond 0 to 65535: convert it first.")
    return Image(pixels.astype(np.uint16), icc)


def to_pillow(image: Image, like: PillowImage) -> PillowImage:
    """An image as one of Pillow's, with what `like` says about itself (profile, EXIF block, resolution).

    Raises:
        ImageError: Pillow has no mode for it: colours or transparency of more than 8 bits.
    """
    pixels = image.pixels
    if pixels.ndim == 3 and pixels.dtype != np.uint8:
        raise ImageError(
            f"Pillow holds colours and transparency of 8 bits alone, and the result is {pixels.dtype}: give an "
            "array or a path, or leave out depth."
        )
    made = PIL.Image.fromarray(pixels)
    made.info = {key: value for key, value in like.info.items() if key not in ("transparency", "icc_profile")}
    if image.icc:
        made.info["icc_profile"] = image.icc
    return made


def pixels_of(image: PillowImage, icc: bytes | None) -> tuple[np.ndarray, bytes | None]:
    """Pixels of the first frame as it is stored, and the profile that they are in.

    Raises:
        ImageError: the mode is not supported.
    """
    image.load()
    if image.mode == "CMYK":
        return _rgb_from_cmyk(image, icc), None
    mode = _plain_mode(image)
    return np.array(image if mode == image.mode else image.convert(mode)), icc


def _plain_mode(image: PillowImage) -> str:
    """The one of L, LA, RGB, RGBA that holds all that a Pillow image shows."""
    transparent = "transparency" in image.info
    if image.mode in ("L", "1"):
        return "LA" if transparent else "L"
    if image.mode in ("LA", "RGBA"):
        return image.mode
    if image.mode == "PA" or (image.mode == "P" and image.palette.mode == "RGBA"):
        return "RGBA"
    if image.mode in ("P", "RGB", "RGBX", "YCbCr", "LAB"):
        return "RGBA" if transparent else "RGB"
    if image.mode in ("La", "RGBa"):
        return image.mode.upper()
    raise ImageError(f"images of mode {image.mode} are not supported")


def _rgb_from_cmyk(image: PillowImage, icc: bytes | None) -> np.ndarray:
    """CMYK as sRGB: through its profile where it has a usable one, else by the plain formula."""
    from PIL import ImageCms

    if icc:
        try:
            profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
            image = ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
        except (ImageCms.PyCMSError, OSError) as error:
            logger.warning("a CMYK profile cannot be used (%s): converting without it", error)
    return np.array(image.convert("RGB"))
