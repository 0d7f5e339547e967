"""Pictures inside a page."""

from __future__ import annotations

import numpy as np

from restore.images import decode_image
from restore.reports.pictures import Gallery


def noise(*shape, dtype=np.uint8):
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, endpoint=True).astype(dtype)


def test_gallery_stays_small_and_says_how():
    gallery = Gallery(lossless_bytes=1, total_bytes=4000, max_side_px=32)
    for name in "abcd":
        gallery.add("S", name, {"restored": noise(40, 24, 3)})
    first, second = list(gallery.figures.values())[:2]
    assert (first.width, first.height, first.note) == (24, 32, "centre of 24×40")
    assert second.note == "centre of 24×40, shown as WebP quality 92"
    assert len(gallery.figures) < 4


def test_sixteen_bits_are_shown_in_eight():
    gallery = Gallery()
    pixels = noise(6, 7, dtype=np.uint16)
    gallery.add("S", "a", {"restored": pixels})
    shown = decode_image(gallery.figures["S", "a"].pictures[0].data).pixels
    assert np.array_equal(shown[..., 0], np.rint(pixels / 257).astype(np.uint8))
