"""defects.html: every photograph with its boxes, and how many of each kind there are."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from restore.detection import Finding
from restore.images import convert_depth, encode_image
from restore.images.resizing import resize_pixels
from restore.reports.format import counted_images
from restore.reports.pages import fill_page

if TYPE_CHECKING:
    from restore.evaluation.defects.search import Searched

__all__ = ["Shown", "render"]

MOST_PX = 1280
QUALITY = 85
COLOURS = ("#e4572e", "#2e86e4", "#d61fb1", "#f0b400", "#17a673", "#8e5bd0", "#5a6b7b", "#b5651d")


@dataclass(frozen=True)
class Shown:
    """A photograph of the page: a reduced copy, and its boxes in pixels of the original."""

    width: int
    height: int
    mime: str
    data: bytes
    findings: Sequence[Finding]

    @classmethod
    def of(cls, pixels: np.ndarray, findings: Sequence[Finding]) -> Shown:
        """From pixels (H, W, C) of any depth; alpha is left out."""
        height, width = pixels.shape[:2]
        planes = pixels.reshape(height, width, -1)
        colours = planes[..., : 3 if planes.shape[2] >= 3 else 1]
        factor = min(1.0, MOST_PX / max(height, width))
        if factor < 1:
            size = (max(round(height * factor), 1), max(round(width * factor), 1))
            colours = resize_pixels(np.ascontiguousarray(colours), size=size).reshape(*size, -1)
        data = encode_image(convert_depth(np.ascontiguousarray(colours), np.uint8), ".webp", quality=QUALITY)
        return cls(width, height, "image/webp", data, findings)

    @property
    def base64(self) -> str:
        """The bytes as they stand in a data address."""
        return base64.b64encode(self.data).decode("ascii")


def render(found: Searched, shown: Mapping[str, Shown], title: str) -> str:
    """The page as text; it needs no network and no other file."""
    number = sum(map(len, found.findings.values()))
    return fill_page(
        "restore.evaluation.defects",
        "defects.html",
        title=title,
        facts=[counted_images(len(found.findings)), f"{number:,} defects", f"score from {found.min_score:g}"],
        found=found,
        shown={name: shown[name] for name in found.ranked if name in shown},
        colours=dict(zip(found.kinds, COLOURS * (1 + len(found.kinds) // len(COLOURS)), strict=False)),
        totals={kind: sum(found.counts(name)[kind] for name in found.findings) for kind in found.kinds},
    )
