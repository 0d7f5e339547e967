"""The degraded input of a reference that has none: antialiased bicubic reduction, made once and kept.

A made input is found again by the content of its reference, so a changed file never meets an old input.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from restore.data.cache import cache_folder

__all__ = ["bicubic_input"]


def bicubic_input(reference: Path, scale: int) -> Path:
    """Path of the reference reduced by `scale`, made on first use.

    The reference is first cropped, at its bottom and right, to a multiple of `scale`; the result is rounded to 8 bits,
    or to 16 if the reference is deeper.

    Raises:
        ImageError: the reference cannot be read, or is smaller than `scale`.
        OutputError: the cache cannot be written (choose another with the variable RESTORE_CACHE).
    """
    from restore.errors import ImageError
    from restore.images import decode_image, resize, to_pixels, to_tensor, write_image

    try:
        data = reference.read_bytes()
    except OSError as error:
        raise ImageError(f"cannot read '{reference}': {error.strerror or error}") from error
    digest = hashlib.sha256(data).hexdigest()[:16]
    path = cache_folder() / "inputs" / f"bicubic_x{scale}" / digest / f"{reference.stem}.png"
    if path.is_file():
        return path
    pixels = decode_image(data, reference).pixels
    height, width = (side // scale * scale for side in pixels.shape[:2])
    if not height or not width:
        raise ImageError(
            f"'{reference}' is {pixels.shape[1]}x{pixels.shape[0]}: too small to be reduced {scale} times."
        )
    reduced = resize(to_tensor(pixels[:height, :width]), size=(height // scale, width // scale))
    write_image(path, to_pixels(reduced, np.uint8 if pixels.dtype == np.uint8 else np.uint16))
    return path
