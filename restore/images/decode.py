"""From the bytes of a file to an `Image`. The bytes decide the format, not the file name.

Pillow decodes what has 8 bits per sample and finds truncated data in every format; OpenCV decodes 16-bit PNG, which
Pillow would cut to 8; `tiff` does 16-bit and float TIFF. Palettes become RGB or RGBA, bilevel images grey, CMYK RGB.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeVar

import numpy as np

from restore.errors import ImageError
from restore.images import png, tiff
from restore.images.exif import PREFIX, is_transposed, orientation_of, oriented, reset_orientation
from restore.images.image import Image

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

__all__ = ["MAX_PIXELS", "decode_image", "read_size"]

Result = TypeVar("Result")
logger = logging.getLogger(__name__)

MAX_PIXELS = 1 << 30
"""Larger images are refused: a few bytes could claim any size."""


def decode_image(data: bytes, name: str | Path = "image") -> Image:
    """Decode a PNG, JPEG, TIFF, WebP or BMP file that is in memory.

    The EXIF orientation is applied and its tag reset. Of several frames or pages the first is taken, with a warning.

    Args:
        data: the whole file.
        name: what to call it in messages.

    Raises:
        ImageError: it is not such a file, it is truncated or damaged, or its layout is not supported.
    """
    return _guarded(name, lambda: _DECODERS[_format_of(data)](data, name))


def read_size(path: str | Path) -> tuple[int, int]:
    """Height and width that `read_image` would give, from the header alone.

    Raises:
        ImageError: the file cannot be read or is not an image.
    """

    def measure() -> tuple[int, int]:
        with Path(path).open("rb") as file:
            height, width, orientation = _SIZES[_format_of(file.read(16))](file)
        _check_size(height, width)
        return (width, height) if is_transposed(orientation) else (height, width)

    return _guarded(path, measure)


def _guarded(name: str | Path, action: Callable[[], Result]) -> Result:
    try:
        return action()
    except ImageError as error:
        raise ImageError(f"cannot read '{name}': {error}") from error
    except MemoryError:
        raise
    except Exception as error:  # decoders raise OSError, SyntaxError, struct.error, KeyError ... on damaged files
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise ImageError(f"cannot read '{name}': {reason}") from error


def _format_of(head: bytes) -> str:
    if head.startswith(png.SIGNATURE):
        return "PNG"
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return "TIFF"
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "WebP"
    if head.startswith(b"BM"):
        return "BMP"
    raise ImageError("the file is not PNG, JPEG, TIFF, WebP or BMP" if head else "the file is empty")


def _decode_png(data: bytes, name: str | Path) -> Image:
    chunks = png.read_chunks(io.BytesIO(data), verify=True)
    if b"acTL" in chunks:
        _warn_of_frames(name, int.from_bytes(chunks[b"acTL"][:4], "big"))
    height, width, depth, kind = _png_header(chunks)
    _check_size(height, width)
    icc, exif = png.icc_from_chunk(chunks.get(b"iCCP")), chunks.get(b"eXIf")
    if depth == 16:
        pixels = _decode_deep_png(data, kind, b"tRNS" in chunks)
    else:
        pixels, icc = _pixels_of(_open_with_pillow("PNG", io.BytesIO(data)), icc)
    return _upright(pixels, icc, exif, orientation_of(exif))


def _decode_deep_png(data: bytes, kind: int, has_transparent_colour: bool) -> np.ndarray:
    import cv2

    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.dtype != np.uint16:
        raise ImageError("the pixel data are damaged")
    if pixels.ndim == 3:
        code = cv2.COLOR_BGRA2RGBA if pixels.shape[2] == 4 else cv2.COLOR_BGR2RGB
        pixels = cv2.cvtColor(pixels, code)
    is_grey = kind in (0, 4)
    has_alpha = kind in (4, 6) or has_transparent_colour
    if is_grey and pixels.ndim == 3:
        pixels = pixels[:, :, [0, 3]] if has_alpha else pixels[:, :, 0]
    return np.ascontiguousarray(pixels)


def _decode_tiff(data: bytes, name: str | Path) -> Image:
    header = tiff.read_header(data)
    _check_size(header.height, header.width)
    if header.num_pages > 1:
        _warn_of_frames(name, header.num_pages)
    if header.dtype == "uint8":
        pixels, icc = _pixels_of(_open_with_pillow("TIFF", io.BytesIO(tiff.without_orientation(data))), header.icc)
    elif header.dtype in ("uint16", "float32"):
        pixels, icc = tiff.decode_deep(data), header.icc
    else:
        raise ImageError(f"TIFF samples of type {header.dtype} are not supported; uint8, uint16 and float32 are")
    return _upright(pixels, icc, header.exif, header.orientation)


def _decoder_with_pillow(kind: str) -> Callable[[bytes, str | Path], Image]:
    def decode(data: bytes, name: str | Path) -> Image:
        image = _open_with_pillow(kind, io.BytesIO(data))
        _check_size(image.height, image.width)
        if getattr(image, "n_frames", 1) > 1:
            _warn_of_frames(name, image.n_frames)
        pixels, icc = _pixels_of(image, image.info.get("icc_profile"))
        exif = _exif_of(image)
        return _upright(pixels, icc, exif, orientation_of(exif))

    return decode


def _pixels_of(image: PillowImage, icc: bytes | None) -> tuple[np.ndarray, bytes | None]:
    """Pixels of the first frame as it is stored, and the profile that they are in."""
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


def _open_with_pillow(kind: str, file: BinaryIO) -> PillowImage:
    """Open through the format's own class: `PIL.Image.open` would refuse large photographs as bombs."""
    from PIL import BmpImagePlugin, JpegImagePlugin, PngImagePlugin, TiffImagePlugin, WebPImagePlugin

    opener = {
        "PNG": PngImagePlugin.PngImageFile,
        "JPEG": JpegImagePlugin.jpeg_factory,
        "TIFF": TiffImagePlugin.TiffImageFile,
        "WebP": WebPImagePlugin.WebPImageFile,
        "BMP": BmpImagePlugin.BmpImageFile,
    }[kind]
    return opener(file)


def _exif_of(image: PillowImage) -> bytes | None:
    return (image.info.get("exif") or b"").removeprefix(PREFIX) or None


def _upright(pixels: np.ndarray, icc: bytes | None, exif: bytes | None, orientation: int) -> Image:
    return Image(oriented(pixels, orientation), icc, reset_orientation(exif))


def _png_header(chunks: dict[bytes, bytes]) -> tuple[int, int, int, int]:
    """Height, width, bits per sample and colour type."""
    header = chunks[b"IHDR"]
    return int.from_bytes(header[4:8], "big"), int.from_bytes(header[:4], "big"), header[8], header[9]


def _check_size(height: int, width: int) -> None:
    if height * width > MAX_PIXELS:
        raise ImageError(f"it claims {height}x{width} pixels; at most {MAX_PIXELS} are read")


def _warn_of_frames(name: str | Path, num_frames: int) -> None:
    logger.warning("'%s' holds %d frames or pages: only the first is read", name, num_frames)


def _size_of_png(file: BinaryIO) -> tuple[int, int, int]:
    chunks = png.read_chunks(file, verify=False)
    height, width, _, _ = _png_header(chunks)
    return height, width, orientation_of(chunks.get(b"eXIf"))


def _size_of_tiff(file: BinaryIO) -> tuple[int, int, int]:
    import tifffile

    file.seek(0)
    with tifffile.TiffFile(file) as container:
        page = container.pages[0]
        orientation = page.tags.get(274)
        return page.imagelength, page.imagewidth, orientation.value if orientation else 1


def _sizer_with_pillow(kind: str) -> Callable[[BinaryIO], tuple[int, int, int]]:
    def measure(file: BinaryIO) -> tuple[int, int, int]:
        file.seek(0)
        image = _open_with_pillow(kind, file)
        return image.height, image.width, orientation_of(_exif_of(image))

    return measure


_DECODERS: dict[str, Callable[[bytes, str | Path], Image]] = {
    "PNG": _decode_png,
    "TIFF": _decode_tiff,
    **{kind: _decoder_with_pillow(kind) for kind in ("JPEG", "WebP", "BMP")},
}
_SIZES: dict[str, Callable[[BinaryIO], tuple[int, int, int]]] = {
    "PNG": _size_of_png,
    "TIFF": _size_of_tiff,
    **{kind: _sizer_with_pillow(kind) for kind in ("JPEG", "WebP", "BMP")},
}
