"""Image files by path: reading, writing, listing."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from restore.errors import DataError, ImageError
from restore.files import atomic_write
from restore.images.decode import decode_image
from restore.images.encode import ImageEncoder
from restore.images.formats import check_fits, readable_suffixes
from restore.images.image import Image, require_unit
from restore.images.rows import PngRows, open_rows
from restore.terminal import one_line

__all__ = ["list_images", "read_image", "read_rows", "write_image", "written_by_rows"]


def read_image(path: str | Path, *, unit: bool = False) -> Image:
    """Read an image file in its own depth, upright, with its ICC profile and EXIF block.

    See `decode_image` for the formats, and for what becomes of palettes, CMYK and animations.

    Args:
        path: the file.
        unit: refuse float pixels that are not finite or beyond [0, 1], of which nobody could say what is white.

    Raises:
        ImageError: the file is missing, unreadable, truncated, damaged or of a kind that is not supported.
    """
    path = Path(path)
    image = decode_image(_bytes_of(path), path)
    image.path = path
    if unit:
        require_unit(image.pixels, path)
    return image


def read_rows(path: str | Path) -> PngRows | np.ndarray:
    """The pixels of an image file, of which only what is cut out is decoded where it is a plain PNG file.

    Raises:
        ImageError: as `read_image`.
    """
    path = Path(path)
    pixels = open_rows(_bytes_of(path), path)
    if isinstance(pixels, np.ndarray):
        require_unit(pixels, path)
    return pixels


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ImageError(f"cannot read '{one_line(str(path))}': {error.strerror or error}") from error


def write_image(path: str | Path, image: Image | np.ndarray, *, quality: int = 95, lossless: bool = False) -> None:
    """Write an image in the format that the ending of `path` asks for; the file appears whole or not at all.

    Args:
        path: where to; missing folders are made, an existing file is replaced.
        image: pixels, or pixels with their ICC profile and EXIF block.
        quality: of lossy formats, 1 to 100.
        lossless: refuse to lose anything: WebP is written lossless, JPEG is an error.

    Raises:
        ImageError: the format cannot hold the image; the message names those that can.
        OutputError: the file cannot be written.
    """
    image = Image(image) if isinstance(image, np.ndarray) else image
    shape, depth = image.pixels.shape, image.pixels.dtype.name
    with written_by_rows(path, image, shape, depth, quality=quality, lossless=lossless) as write:
        write(image.pixels)


@contextlib.contextmanager
def written_by_rows(
    path: str | Path,
    like: Image,
    shape: Sequence[int],
    depth: str,
    *,
    quality: int = 95,
    lossless: bool = False,
) -> Iterator[Callable[[np.ndarray], None]]:
    """Write an image from top to bottom, as `write_image` does: what is entered takes the next rows.

    Args:
        path: where to.
        like: what the file carries beside its pixels.
        shape: (H, W) or (H, W, C) of the image.
        depth: of its pixels: uint8, uint16 or float32.
        quality: of lossy formats, 1 to 100.
        lossless: refuse to lose anything.

    Raises:
        ImageError: the format cannot hold the image.
        OutputError: the file cannot be written.
    """
    path = Path(path)
    with _told(path):
        check_fits(path.suffix, shape, depth, lossless=lossless)
    with atomic_write(path) as file:
        with _told(path):
            encoder = ImageEncoder(file, path.suffix, like, shape, depth, quality=quality, lossless=lossless)

        def write(rows: np.ndarray) -> None:
            with _told(path):
                encoder.write(rows)

        yield write
        with _told(path):
            encoder.finish()


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except ImageError as error:
        raise ImageError(f"cannot write '{one_line(str(path))}': {error}") from error


def list_images(folder: str | Path, *, recursive: bool = False) -> list[Path]:
    """The image files in a folder, by their endings, sorted; hidden files and folders are left out.

    A link that leads nowhere is listed, so that whoever reads it finds out.

    Raises:
        DataError: there is no such folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"'{folder}' is not a folder")
    paths, suffixes = folder.rglob("*") if recursive else folder.iterdir(), readable_suffixes()
    return sorted(
        path
        for path in paths
        if path.suffix.lower() in suffixes
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and (path.is_file() or not path.exists())
    )
