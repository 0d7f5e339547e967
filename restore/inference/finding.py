"""Running detectors over images of any size: tiles that overlap, and what their seams cut joined again."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch

from restore.detection.base import Detector, Finding, without_repeats
from restore.images import to_tensor

__all__ = ["find", "found_and_wanted"]

TILE_PX, OVERLAP_PX = 256, 64
_EDGE_PX = 3  # from a seam: a box that ends here was cut by it
_COMMON = 0.1  # of the smaller one of two boxes, from which they are parts of one thing
_BATCH = 4


def find(detector: Detector, pixels: np.ndarray, *, min_score: float = 0.3, tile_px: int = TILE_PX) -> list[Finding]:
    """What is in an image, the surest first; boxes in its pixels.

    Tiles overlap by 64 px. What is cut by a seam is left to the tile that sees all of it; what is longer than the
    overlap has a part in each, and these are joined.

    Args:
        detector: run in evaluation mode, on its device.
        pixels: (H, W) or (H, W, C) of uint8, uint16 or float32 in [0, 1]; grey is repeated, alpha left out.
        min_score: how sure a finding is at least.
        tile_px: side of a tile; smaller images are seen whole.
    """
    device = next(detector.parameters()).device
    x_BCHW = to_tensor(np.ascontiguousarray(_three_channels(pixels)))
    height, width = x_BCHW.shape[-2:]
    rows, columns = min(tile_px, height), min(tile_px, width)
    places = list(itertools.product(_starts(height, rows), _starts(width, columns)))
    whole: list[Finding] = []
    parts: list[Finding] = []
    for first in range(0, len(places), _BATCH):
        some = places[first : first + _BATCH]
        tiles_BCHW = torch.cat([x_BCHW[..., top : top + rows, left : left + columns] for top, left in some])
        for (top, left), findings in zip(some, detector.find(tiles_BCHW.to(device), min_score=min_score), strict=True):
            tile = (left, top, left + columns, top + rows)
            for each in findings:
                near, upper, far, lower = each.box
                moved = each._replace(box=(near + left, upper + top, far + left, lower + top))
                reach = _reach_from_seams(moved.box, tile, (width, height))
                if reach is None:
                    whole.append(moved)
                elif reach > OVERLAP_PX - _EDGE_PX:
                    parts.append(moved)
    return without_repeats([*whole, *_joined(parts)])


def found_and_wanted(
    detector: Detector, dataset: Any, indices: Iterable[int] | None = None, *, min_score: float = 0.05
) -> Iterator[tuple[list[Finding], list[Finding]]]:
    """For each whole image of a dataset with `image` and `boxes`, what is found and what is wanted, in its pixels.

    Args:
        detector: what finds.
        dataset: what is wanted.
        indices: of the images; None for all.
        min_score: how sure a finding is at least; average precision counts those that are not sure, too.
    """
    for index in range(len(dataset)) if indices is None else indices:
        sample = dataset[index]
        height, width = sample["image"].shape[:2]
        corners = (sample["boxes"][:, 1:] * np.array([width, height] * 2, np.float32)).tolist()
        kinds = [detector.kinds[int(number)] for number in sample["boxes"][:, 0]]
        wanted = [Finding(kind, tuple(box), 1.0) for kind, box in zip(kinds, corners, strict=True)]
        yield find(detector, sample["image"], min_score=min_score), wanted


def _three_channels(pixels: np.ndarray) -> np.ndarray:
    pixels = pixels if pixels.ndim == 3 else pixels[..., None]
    return pixels[..., :3] if pixels.shape[2] >= 3 else pixels[..., :1].repeat(3, axis=2)


def _starts(side: int, tile: int) -> list[int]:
    """Where tiles begin: the last one ends with the image, and all overlap by the least that makes them equal."""
    number = 1 if side <= tile else -(-(side - OVERLAP_PX) // max(tile - OVERLAP_PX, 1))
    return [round(index * (side - tile) / max(number - 1, 1)) for index in range(number)]


def _reach_from_seams(box: tuple[float, ...], tile: tuple[int, ...], sides: tuple[int, int]) -> float | None:
    """How far a box reaches from the seam that cuts it, the farthest if several do; None if none does."""
    reaches = []
    for axis in (0, 1):
        low, high = box[axis], box[axis + 2]
        if tile[axis] > 0 and low < tile[axis] + _EDGE_PX:
            reaches.append(high - tile[axis])
        if tile[axis + 2] < sides[axis] and high > tile[axis + 2] - _EDGE_PX:
            reaches.append(tile[axis + 2] - low)
    return max(reaches) if reaches else None


def _joined(parts: list[Finding]) -> list[Finding]:
    """The parts of one kind that have something in common as one box around them, as sure as the surest."""
    left = list(parts)
    joined: list[Finding] = []
    while left:
        whole = left.pop()
        while near := [each for each in left if _belong_together(whole, each)]:
            left = [each for each in left if each not in near]
            boxes = [whole.box, *(each.box for each in near)]
            lefts, tops, rights, bottoms = zip(*boxes, strict=True)
            box = (min(lefts), min(tops), max(rights), max(bottoms))
            whole = Finding(whole.kind, box, max(whole.score, *(each.score for each in near)))
        joined.append(whole)
    return joined


def _belong_together(one: Finding, other: Finding) -> bool:
    if one.kind != other.kind:
        return False
    common = [min(one.box[i + 2], other.box[i + 2]) - max(one.box[i], other.box[i]) for i in (0, 1)]
    areas = [(each.box[2] - each.box[0]) * (each.box[3] - each.box[1]) for each in (one, other)]
    return min(common) > 0 and common[0] * common[1] > _COMMON * min(areas)
