"""How well boxes are found: average precision at an intersection over union (Pascal VOC, COCO).

A finding is right if it overlaps with a wanted box of its kind, in its image, that no surer finding has taken.
Precision, the share of right ones among the surest n findings, is taken over recall, the share of the wanted boxes that
they found; average precision is the area under the curve after each precision was raised to the largest at any higher
recall (Everingham et al. 2010, "The Pascal VOC Challenge", all points, as from 2010 on).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch

from restore.detection.base import Finding
from restore.layers.box_overlaps import iou

__all__ = ["average_precision", "mean_average_precision", "precision_and_recall"]

Pairs = Sequence[tuple[Sequence[Finding], Sequence[Finding]]]


def precision_and_recall(pairs: Pairs, kind: str, min_iou: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """Precision and recall of the surest 1, 2, ... findings of a kind.

    Args:
        pairs: of each image, what was found and what was wanted; the score of what was wanted does not count.
        kind: other kinds are left out.
        min_iou: intersection over union from which a finding has found a box.
    """
    ranked: list[tuple[float, bool]] = []
    num_wanted = 0
    for findings, truths in pairs:
        mine = sorted((each for each in findings if each.kind == kind), key=lambda each: -each.score)
        wanted = [each for each in truths if each.kind == kind]
        num_wanted += len(wanted)
        ranked += zip((each.score for each in mine), _right(mine, wanted, min_iou), strict=True)
    ranked.sort(key=lambda each: -each[0])
    right = np.cumsum([is_right for _, is_right in ranked])
    return right / np.arange(1, len(right) + 1), right / max(num_wanted, 1)


def average_precision(pairs: Pairs, kind: str, min_iou: float = 0.5) -> float:
    """The area under the interpolated curve in [0, 1]; NaN where no box of the kind is wanted. Arguments as above."""
    if not any(each.kind == kind for _, truths in pairs for each in truths):
        return math.nan
    precision, recall = precision_and_recall(pairs, kind, min_iou)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(best * np.diff(recall, prepend=0.0)))


def mean_average_precision(
    pairs: Pairs, kinds: Sequence[str], min_iou: float = 0.5
) -> tuple[float, Mapping[str, float]]:
    """The mean over those kinds of which any box is wanted, and the average precision of each kind."""
    found = {kind: average_precision(pairs, kind, min_iou) for kind in kinds}
    known = [value for value in found.values() if not math.isnan(value)]
    return (sum(known) / len(known) if known else math.nan), found


def _right(findings: Sequence[Finding], wanted: Sequence[Finding], min_iou: float) -> list[bool]:
    """Which findings, the surest first, have found a box that was still free: each looks at the nearest one."""
    if not wanted or not findings:
        return [False] * len(findings)
    ours, theirs = (torch.tensor([each.box for each in side], dtype=torch.float64) for side in (findings, wanted))
    overlaps = iou(ours[:, None], theirs[None])
    taken: set[int] = set()
    right = []
    for row in overlaps:
        nearest = int(row.argmax())
        is_right = float(row[nearest]) >= min_iou and nearest not in taken
        taken |= {nearest} if is_right else set()
        right.append(is_right)
    return right
