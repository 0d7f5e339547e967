"""Pictures inside a page: encoded once, exactly while the page stays small, and saying so where they are not exact."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from restore.images import convert_depth, encode_image

__all__ = ["Figure", "Gallery", "Picture"]

MAX_SIDE_PX = 2048
LOSSLESS_BYTES = 12 << 20
TOTAL_BYTES = 32 << 20
QUALITY = 92
EFFORT = 0  # of the lossless encoder: more makes files up to a seventh smaller and takes ten times as long


@dataclass(frozen=True)
class Picture:
    """One encoded picture: what it shows ("baseline", "restored" or "reference") and its bytes."""

    kind: str
    mime: str
    data: bytes

    @property
    def base64(self) -> str:
        """The bytes as they stand in a data address."""
        return base64.b64encode(self.data).decode("ascii")


@dataclass(frozen=True)
class Figure:
    """The pictures of one image, all of one size.

    Attributes:
        width: in pixels, of what is shown.
        height: in pixels, of what is shown.
        pictures: baseline, restored and reference, as far as there are any.
        note: how what is shown differs from the files; empty when it does not.
    """

    width: int
    height: int
    pictures: tuple[Picture, ...]
    note: str = ""


@dataclass
class Gallery:
    """Collects figures until the page is large enough.

    The first pictures are lossless; when they fill `lossless_bytes`, further ones are lossy, and when `total_bytes` are
    full no more are taken. Of an image with a side over `max_side_px` the centre is shown, never a reduced copy.

    Attributes:
        figures: what was taken, by (dataset, image).
        num_bytes: size of the encoded pictures so far.
    """

    lossless_bytes: int = LOSSLESS_BYTES
    total_bytes: int = TOTAL_BYTES
    max_side_px: int = MAX_SIDE_PX
    figures: dict[tuple[str, str], Figure] = field(default_factory=dict)
    num_bytes: int = 0

    def add(self, dataset: str, name: str, pixels: Mapping[str, np.ndarray]) -> None:
        """Take the pictures of one image: arrays of one size, by kind."""
        if self.num_bytes >= self.total_bytes:
            return
        notes = []
        height, width = next(iter(pixels.values())).shape[:2]
        if max(height, width) > self.max_side_px:
            pixels = {kind: _centre(picture, self.max_side_px) for kind, picture in pixels.items()}
            notes.append(f"centre of {width}×{height}")
            height, width = next(iter(pixels.values())).shape[:2]
        exact = self.num_bytes < self.lossless_bytes
        if not exact:
            notes.append(f"shown as WebP quality {QUALITY}")
        pictures = tuple(_encoded(kind, picture, exact) for kind, picture in pixels.items())
        self.figures[dataset, name] = Figure(width, height, pictures, ", ".join(notes))
        self.num_bytes += sum(len(picture.data) for picture in pictures)


def _encoded(kind: str, pixels: np.ndarray, exact: bool) -> Picture:
    pixels = convert_depth(pixels, np.uint8)
    data = encode_image(pixels, ".webp", quality=EFFORT if exact else QUALITY, lossless=exact)
    return Picture(kind, "image/webp", data)


def _centre(pixels: np.ndarray, side_px: int) -> np.ndarray:
    height, width = pixels.shape[:2]
    top, left = max(height - side_px, 0) // 2, max(width - side_px, 0) // 2
    return pixels[top : top + side_px, left : left + side_px]
