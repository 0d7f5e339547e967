"""Image files by path: reading, writing, listing."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from restore.errors import DataError, ImageError
from restore.files import atomic_write
from restore.images.decode import decode_image
from restore.images.encode import encode_image
from restore.images.formats import readable_suffixes
from restore.images.image import Image, require_unit
from restore.terminal import one_line

__all__ = ["list_images", "read_image", "write_image"]


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
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ImageError(f"cannot read '{one_line(str(path))}': {error.strerror or error}") from error
    image = decode_image(data, path)
    image.path = path
    if unit:
        require_unit(image.pixels, path)
    return image


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
    path = Path(path)
    try:
        data = encode_image(image, path.suffix, quality=quality, lossless=lossless)
    except ImageError as error:
        raise ImageError(f"cannot write '{one_line(str(path))}': {error}") from error
    with atomic_write(path) as file:
        file.write(data)


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
