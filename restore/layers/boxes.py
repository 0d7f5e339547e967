"""Rectangles of maps, and what is exchanged between the maps of a batch in them (CutMix, MixToken)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

__all__ = ["area_of", "box_of", "exchanged"]

Box = Sequence[int]
"""Top, bottom, left and right, in places of a map; bottom and right are the first places outside."""


def box_of(draws: Sequence[float], height: int, width: int) -> list[int]:
    """The rectangle that four numbers in [0, 1) stand for: its height and width as shares, and where it lies.

    It has at least one place. Uniform draws give sides that are uniform shares of the map's.
    """
    share_h, share_w, at_h, at_w = draws
    rows, columns = max(1, round(share_h * height)), max(1, round(share_w * width))
    top, left = int(at_h * (height - rows + 1)), int(at_w * (width - columns + 1))
    return [top, top + rows, left, left + columns]


def area_of(box: Box, height: int, width: int) -> float:
    """The share of a map that a rectangle covers."""
    top, bottom, left, right = box
    return (bottom - top) * (right - left) / (height * width)


def exchanged(x_BCHW: Tensor, box: Box) -> Tensor:
    """Maps whose rectangle is that of the batch in reverse order; doing it again gives the maps back, bit by bit.

    This is MixToken where the maps are tokens (Jiang et al. 2021, arXiv 2104.10858, section 3.2).
    """
    top, bottom, left, right = box
    result = x_BCHW.clone()
    result[..., top:bottom, left:right] = x_BCHW.flip(0)[..., top:bottom, left:right]
    return result
