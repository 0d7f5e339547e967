"""From the bytes of a file to an `Image`. The bytes decide the format, not the file name.

Pillow decodes what has 8 bits per sample and finds truncated data in every format; of plain PNG files `png` decodes the
rows itself where its library was built. OpenCV decodes 16-bit PNG, which Pillow would cut to 8; `tiff` does 16-bit and
float TIFF, `pnm` all of PNM, `plugins` what not everybody has. Missing pixels are an error; where all are there,
whatever else is damaged is a warning. Palettes become RGB or RGBA, bilevel images grey, CMYK RGB.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeVar

import numpy as np

from restore.errors import ImageError
from restore.images import jpeg, plugins, png, pnm, tiff
from restore.images.bounds import check_claim
from restore.images.carried import Carried, carried_by
from restore.images.exif import PREFIX, is_transposed, orientation_of, oriented, reset_orientation
from restore.images.image import Image
from restore.images.pillow import pixels_of, without_pillows_bound
from restore.terminal import one_line

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

__all__ = ["decode_image", "is_animated", "read_size", "size_of"]

Result = TypeVar("Result")
logger = logging.getLogger(__name__)


def decode_image(data: bytes, name: str | Path = "image") -> Image:
    """Decode an image file that is in memory: PNG, JPEG, TIFF, WebP, BMP, GIF, PNM; with plugins AVIF, HEIC, JPEG XL.

    The EXIF orientation is applied and its tag reset. Of several frames or pages the first is taken, with a warning.

    Args:
        data: the whole file.
        name: what to call it in messages.

    Raises:
        ImageError: it is not such a file, it is truncated or damaged, or its layout is not supported.
    """
    return _guarded(name, lambda: _DECODERS[_format_of(data[: plugins.HEAD_BYTES])](data, name))


def read_size(path: str | Path) -> tuple[int, int]:
    """Height and width that `read_image` would give, from the header alone.

    Raises:
        ImageError: the file cannot be read or is not an image.
    """

    def measure() -> tuple[int, int]:
        with Path(path).open("rb") as file:
            return _size_in(file)

    return _guarded(path, measure)


def size_of(data: bytes, name: str | Path = "image") -> tuple[int, int]:
    """Height and width that `decode_image` would give, from the header alone.

    Raises:
        ImageError: it is not an image.
    """
    return _guarded(name, lambda: _size_in(io.BytesIO(data)))


def is_animated(path: str | Path) -> bool:
    """Whether a GIF file holds several frames.

    Raises:
        ImageError: the file cannot be read or is no GIF.
    """

    def count() -> bool:
        with Path(path).open("rb") as file:
            return bool(getattr(_open_with_pillow("GIF", file), "is_animated", False))

    return _guarded(path, count)


def _guarded(name: str | Path, action: Callable[[], Result]) -> Result:
    name = one_line(str(name))
    try:
        with without_pillows_bound():
            return action()
    except ImageError as error:
        raise ImageError(f"cannot read '{name}': {error}") from error
    except MemoryError as error:
        raise ImageError(f"cannot read '{name}': there is not enough memory for its pixels") from error
    except Exception as error:  # decoders raise OSError, SyntaxError, struct.error, KeyError ... on damaged files
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        reason = f"decoder error {reason}" if reason.lstrip("-").isdigit() else reason  # as older Pillow has it
        raise ImageError(f"cannot read '{name}': {reason}") from error


def _size_in(file: BinaryIO) -> tuple[int, int]:
    measure = _SIZES[_format_of(file.read(plugins.HEAD_BYTES))]
    height, width, orientation = measure(file, file.seek(0, io.SEEK_END))
    return (width, height) if is_transposed(orientation) else (height, width)


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
    if head[:6] in (b"GIF87a", b"GIF89a"):
        return "GIF"
    if head[:2] in pnm.MAGIC and head[2:3] in b"# \t\r\n":
        return "PNM"
    if kind := plugins.kind_of(head):
        return kind
    raise ImageError(f"the file is not {', '.join(_DECODERS)}" if head else "the file is empty")


def _decode_png(data: bytes, name: str | Path) -> Image:
    file = png.read(io.BytesIO(data))
    file.check_claim(len(file.data))
    if b"acTL" in file.chunks:
        _warn_of_frames(name, int.from_bytes(file.chunks[b"acTL"][:4], "big"))
    if file.unfinished:
        file.check_whole()
    icc, exif, carried = file.metadata()
    decoded = file.decoded(file.size[0]) if file.is_plain else None
    if decoded is not None:
        pixels = decoded
    elif file.depth == 16:
        pixels = _decode_deep_png(file)
    else:
        image = _open_with_pillow("PNG", io.BytesIO(file.plain()))
        pixels, icc = pixels_of(image, icc)
        if file.interlaced or not np.asarray(image)[-1].any():  # rows that are missing are left at zero
            file.check_whole()
    _warn_of_faults(name, file.complaints)
    return _upright(pixels, icc, exif, orientation_of(exif), carried)


def _decode_deep_png(file: png.Png) -> np.ndarray:
    import cv2

    pixels = cv2.imdecode(np.frombuffer(file.plain(), np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.dtype != np.uint16:
        file.check_whole()
        raise ImageError("the pixel data are damaged")
    if pixels.ndim == 3:
        code = cv2.COLOR_BGRA2RGBA if pixels.shape[2] == 4 else cv2.COLOR_BGR2RGB
        pixels = cv2.cvtColor(pixels, code)
    is_grey = file.colour_type in (0, 4)
    has_alpha = file.colour_type in (4, 6) or b"tRNS" in file.chunks
    if is_grey and pixels.ndim == 3:
        pixels = pixels[:, :, [0, 3]] if has_alpha else pixels[:, :, 0]
    return np.ascontiguousarray(pixels)


def _decode_tiff(data: bytes, name: str | Path) -> Image:
    header = tiff.read_header(data)
    if header.num_pages > 1:
        _warn_of_frames(name, header.num_pages)
    if header.dtype == "uint8" and not data.startswith(tiff.UNKNOWN_TO_PILLOW):
        pixels, icc = pixels_of(_open_with_pillow("TIFF", io.BytesIO(tiff.without_orientation(data))), header.icc)
    elif header.dtype in ("uint8", "uint16", "float32"):
        pixels, icc = tiff.decode_deep(data), header.icc
    else:
        raise ImageError(f"TIFF samples of type {header.dtype} are not supported; uint8, uint16 and float32 are")
    return _upright(pixels, icc, header.exif, header.orientation, header.carried)


def _decode_jpeg(data: bytes, name: str | Path) -> Image:
    def decode(data: bytes) -> tuple[PillowImage, np.ndarray, bytes | None]:
        image = _open_with_pillow("JPEG", io.BytesIO(data))
        check_claim(image.height, image.width, len(image.getbands()), len(data), jpeg.DECODED_PER_BYTE)
        return image, *pixels_of(image, image.info.get("icc_profile"))

    def is_whole() -> bool:
        return jpeg.is_whole(data, lambda ended: decode(ended)[1])

    try:
        image, pixels, icc = decode(data)
    except OSError as error:
        if jpeg.read_scans(data).end is not None or not is_whole():
            raise ImageError(f"the file is truncated ({error})") from error
        image, pixels, icc = decode(data.rstrip(b"\xff") + jpeg.END)
        _warn_of_faults(name, ["its end is missing"])
    else:
        if jpeg.ends_early(data, image, lambda other: _open_with_pillow("JPEG", io.BytesIO(other))):
            raise ImageError("the file is truncated (its pixel data end early)")
    exif = _exif_of(image)
    if getattr(image, "n_frames", 1) > 1:
        _warn_of_frames(name, image.n_frames)
    return _upright(pixels, icc, exif, orientation_of(exif), carried_by(image.info, exif))


def _decode_pnm(data: bytes, name: str | Path) -> Image:
    pnm.read_header(data).check_claim(len(data))
    return Image(pnm.decode(data))


def _decode_heic(data: bytes, name: str | Path) -> Image:
    opened = plugins.open_heic(io.BytesIO(data))
    check_claim(*opened.size, len(opened.mode), len(data), _MOST_PER_BYTE["HEIC"])
    if len(opened) > 1:
        _warn_of_frames(name, len(opened))
    return Image(*plugins.heic_pixels(opened))


def _decode_avif(data: bytes, name: str | Path) -> Image:
    plugins.warn_of_depth(data, name)
    return _decoder_with_pillow("AVIF")(data, name)


def _decoder_with_pillow(kind: str) -> Callable[[bytes, str | Path], Image]:
    def decode(data: bytes, name: str | Path) -> Image:
        image = _open_with_pillow(kind, io.BytesIO(data))
        _check_claim_of(image, kind, len(data))
        if getattr(image, "n_frames", 1) > 1:
            _warn_of_frames(name, image.n_frames)
        pixels, icc = pixels_of(image, image.info.get("icc_profile"))
        exif = _exif_of(image)
        return _upright(pixels, icc, exif, orientation_of(exif), carried_by(image.info, exif))

    return decode


def _check_claim_of(image: PillowImage, kind: str, held_bytes: int) -> None:
    check_claim(image.height, image.width, len(image.getbands()), held_bytes, _MOST_PER_BYTE[kind])


def _open_with_pillow(kind: str, file: BinaryIO) -> PillowImage:
    """Open through the format's own class, so that no other format is tried."""
    from PIL import BmpImagePlugin, GifImagePlugin, JpegImagePlugin, PngImagePlugin, TiffImagePlugin, WebPImagePlugin

    opener = {
        "PNG": PngImagePlugin.PngImageFile,
        "JPEG": JpegImagePlugin.jpeg_factory,
        "TIFF": TiffImagePlugin.TiffImageFile,
        "WebP": WebPImagePlugin.WebPImageFile,
        "BMP": BmpImagePlugin.BmpImageFile,
        "GIF": GifImagePlugin.GifImageFile,
        "AVIF": plugins.open_avif,
        "JPEG XL": plugins.open_jpeg_xl,
    }[kind]
    return opener(file)


def _exif_of(image: PillowImage) -> bytes | None:
    return (image.info.get("exif") or b"").removeprefix(PREFIX) or None


def _upright(pixels: np.ndarray, icc: bytes | None, exif: bytes | None, orientation: int, carried: Carried) -> Image:
    upright = oriented(pixels, orientation)
    return Image(upright, icc, reset_orientation(exif), carried=carried.turned(orientation))


def _warn_of_frames(name: str | Path, num_frames: int) -> None:
    logger.warning("'%s' holds %d frames or pages: only the first is read", name, num_frames)


def _warn_of_faults(name: str | Path, faults: Sequence[str]) -> None:
    if faults:
        logger.warning("'%s' is damaged (%s), but its pixels are whole: they are read", name, ", ".join(faults))


def _size_of_png(file: BinaryIO, num_bytes: int) -> tuple[int, int, int]:
    header = png.read(file, pixels=False)
    header.check_claim(num_bytes)
    if header.unfinished:
        png.read(file).check_whole()
    return *header.size, orientation_of(header.metadata()[1])


def _size_of_pnm(file: BinaryIO, num_bytes: int) -> tuple[int, int, int]:
    file.seek(0)
    header = pnm.read_header(file.read(pnm.HEADER_BYTES))
    header.check_claim(num_bytes)
    return header.height, header.width, 1


def _size_of_heic(file: BinaryIO, num_bytes: int) -> tuple[int, int, int]:
    file.seek(0)
    width, height = plugins.open_heic(file).size
    return height, width, 1


def _sizer_with_pillow(kind: str) -> Callable[[BinaryIO, int], tuple[int, int, int]]:
    def measure(file: BinaryIO, num_bytes: int) -> tuple[int, int, int]:
        file.seek(0)
        image = _open_with_pillow(kind, file)
        _check_claim_of(image, kind, num_bytes)
        return image.height, image.width, orientation_of(_exif_of(image))

    return measure


_MOST_PER_BYTE = {
    "JPEG": jpeg.DECODED_PER_BYTE,
    **dict.fromkeys(("BMP", "GIF"), 1 << 16),
    **dict.fromkeys(("WebP", "AVIF", "HEIC", "JPEG XL"), 1 << 30),
}
"""Decoded bytes that one byte of a file can stand for, at the most; for most formats there is no bound."""

_DECODERS: dict[str, Callable[[bytes, str | Path], Image]] = {
    "PNG": _decode_png,
    "TIFF": _decode_tiff,
    "JPEG": _decode_jpeg,
    **{kind: _decoder_with_pillow(kind) for kind in ("WebP", "BMP", "GIF", "JPEG XL")},
    "PNM": _decode_pnm,
    "AVIF": _decode_avif,
    "HEIC": _decode_heic,
}
_SIZES: dict[str, Callable[[BinaryIO, int], tuple[int, int, int]]] = {
    "PNG": _size_of_png,
    "TIFF": tiff.read_size,
    **{kind: _sizer_with_pillow(kind) for kind in ("JPEG", "WebP", "BMP", "GIF", "AVIF", "JPEG XL")},
    "PNM": _size_of_pnm,
    "HEIC": _size_of_heic,
}
