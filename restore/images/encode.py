"""From an `Image` to the bytes of a file, in the format that the file name's ending asks for.

Nothing is lost in silence: what a format cannot hold is an error that names the formats that can. The exceptions are
harmless and stated: WebP stores grey as equal RGB, BMP grey with alpha as RGBA, and what a file carries beside its
pixels and a format does not hold is said once (docs/carried.md).
"""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

import numpy as np

from restore.errors import ImageError
from restore.images import bmp, jpeg, png, tiff
from restore.images.carried import Carried, say_left_behind, xmp_of_size
from restore.images.exif import PREFIX, is_readable, with_density, with_size
from restore.images.formats import Format, check_fits, format_for
from restore.images.image import Image

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

__all__ = ["ImageEncoder", "encode_image"]

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
    image = Image(image) if isinstance(image, np.ndarray) else image
    file = io.BytesIO()
    encoder = ImageEncoder(file, suffix, image, quality=quality, lossless=lossless)
    encoder.write(image.pixels)
    encoder.finish()
    return file.getvalue()


class ImageEncoder:
    """Writes an image to an open file from top to bottom, in the format that an ending asks for.

    Rows are encoded as they come; WebP holds them until the last.

    Args:
        file: where to; it can be written at any place.
        suffix: ".png", ".jpg", ".tif", ".webp", ".bmp" ...
        like: what the file carries beside its pixels.
        shape: (H, W) or (H, W, C) of the image; by default that of `like`.
        depth: of its pixels; by default that of `like`.
        quality: of lossy formats, 1 to 100.
        lossless: refuse to lose anything.

    Raises:
        ImageError: no such format, or it cannot hold the depth, the alpha channel or the size.
    """

    def __init__(
        self,
        file: BinaryIO,
        suffix: str,
        like: Image,
        shape: Sequence[int] | None = None,
        depth: str | None = None,
        *,
        quality: int = 95,
        lossless: bool = False,
    ):
        self._shape, dtype = tuple(shape or like.pixels.shape), np.dtype(depth or like.pixels.dtype)
        check_fits(suffix, self._shape, dtype.name, lossless=lossless)
        self._format = format_for(suffix)
        if not (0 if lossless else 1) <= quality <= 100:  # of a lossless image it is the effort
            raise ImageError(f"quality is {quality}; must be 1 to 100")
        icc, exif, carried = _held(like, self._shape, self._format)
        with self._told():
            if self._format.name == "PNG":
                self._encoder: _Encoder = png.Encoder(file, self._shape, dtype, icc, exif, carried)
            elif self._format.name == "TIFF":
                self._encoder = tiff.Encoder(file, self._shape, dtype, icc, exif, carried)
            elif self._format.name == "JPEG":
                encode = partial(_encode_jpeg, quality, icc, exif, carried)
                self._encoder = jpeg.Encoder(file, self._shape, encode, carried.density)
            elif self._format.name == "BMP":
                self._encoder = bmp.Encoder(file, self._shape, carried)
            else:
                self._encoder = _Whole(file, self._shape, partial(_encode_webp, quality, lossless, icc, exif, carried))

    def write(self, rows: np.ndarray) -> None:
        """The next rows, (rows, W) or (rows, W, C).

        Raises:
            ImageError: they cannot be encoded.
        """
        with self._told():
            self._encoder.write(rows)

    def finish(self) -> None:
        """What follows the last row.

        Raises:
            ImageError: it cannot be encoded.
        """
        with self._told():
            self._encoder.finish()

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except ValueError as error:
            height, width = self._shape[:2]
            raise ImageError(f"a {height}x{width} image cannot be encoded as {self._format.name}: {error}") from error


class _Encoder(Protocol):
    def write(self, rows: np.ndarray) -> None: ...
    def finish(self) -> None: ...


class _Whole:
    """Holds rows, as Pillow's image, until the last has come, for an encoder that wants all of them at once."""

    def __init__(self, file: BinaryIO, shape: Sequence[int], encode: Callable[[PillowImage], bytes]):
        self._file, self._size, self._encode = file, (shape[1], shape[0]), encode
        self._image: PillowImage | None = None
        self._done = 0

    def write(self, rows: np.ndarray) -> None:
        import PIL.Image

        part = PIL.Image.fromarray(np.ascontiguousarray(_as_rgba(rows)))
        if part.size == self._size:
            self._image = part
            return
        if self._image is None:
            self._image = PIL.Image.new(part.mode, self._size)
        self._image.paste(part, (0, self._done))
        self._done += len(rows)

    def finish(self) -> None:
        assert self._image is not None
        self._file.write(self._encode(self._image))


def _held(image: Image, shape: Sequence[int], fmt: Format) -> tuple[bytes | None, bytes | None, Carried]:
    """What a file of this format holds of what an image carries, sizes set to its own: profile, EXIF and the rest.

    What is left behind is said once.
    """
    (height, width, *channels), carried, icc = shape, image.carried, image.icc
    for what in carried.left:
        say_left_behind(f"{what} of {_source(image)}")
    is_grey = (channels[0] if channels else 1) < 3
    stored_space = b"GRAY" if is_grey and fmt.grey else b"RGB "
    if icc and icc[16:20] in (b"GRAY", b"RGB ", b"CMYK") and icc[16:20] != stored_space:
        logger.warning("an ICC profile for %s does not fit this image: it is not written", icc[16:20].decode().strip())
        icc = None
    colour = () if _is_srgb(dict(carried.colour)) and "colour" not in fmt.carries else carried.colour
    held: dict[str, Any] = {
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
    return held["profile"], held["EXIF"], kept


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


def _encode_jpeg(
    quality: int, icc: bytes | None, exif: bytes | None, carried: Carried, pixels: np.ndarray, first: bool
) -> bytes:
    beside: dict[str, Any] = {
        "icc_profile": icc,
        "exif": PREFIX + exif if exif else b"",
        "xmp": carried.xmp,
        "comment": _comment(carried.text),
    }
    import PIL.Image

    image = PIL.Image.fromarray(np.ascontiguousarray(pixels))
    return _encode_with_pillow(image, "JPEG", quality=quality, subsampling=0, **(beside if first else {}))


def _encode_webp(
    quality: int, lossless: bool, icc: bytes | None, exif: bytes | None, carried: Carried, image: PillowImage
) -> bytes:
    return _encode_with_pillow(
        image,
        "WEBP",
        quality=quality,
        lossless=lossless,
        method=min(quality // 20, 6) if lossless else 4,  # 4 is Pillow's own
        exact=lossless,
        icc_profile=icc or b"",
        exif=with_density(exif, carried.density) or b"",
        xmp=carried.xmp or b"",
    )


def _encode_with_pillow(image: PillowImage, name: str, **options: Any) -> bytes:
    """A whole file by Pillow.

    Raises:
        ValueError: Pillow's reason why there is none.
    """
    file = io.BytesIO()
    try:
        image.save(file, name, **options)
    except OSError as error:
        raise ValueError(str(error)) from error
    return file.getvalue()


def _as_rgba(pixels: np.ndarray) -> np.ndarray:
    """Grey with alpha as RGBA; anything else as it is."""
    return pixels[:, :, [0, 0, 0, 1]] if pixels.ndim == 3 and pixels.shape[2] == 2 else pixels
