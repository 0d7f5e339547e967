"""What every detector has in common: the kinds that it knows, and boxes of them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import torch

from restore.layers.box_overlaps import box_areas, intersections, iou, to_corners
from restore.networks.base import Network
from restore.networks.spec import ImageSpec

__all__ = ["KINDS", "Detector", "Finding", "without_repeats"]

KINDS = ("scratch", "dust", "hot_pixel", "text", "blocks")
"""The defects that the operators of `restore.degradations.operators.defects` paste."""


class Finding(NamedTuple):
    """One thing that was found: its kind, left, top, right and bottom in pixels, and how sure that is, in [0, 1]."""

    kind: str
    box: tuple[float, float, float, float]
    score: float


class Detector(Network):
    """Base of all detectors. `forward` gives predictions that a loss takes; `find` gives boxes.

    Attributes:
        kinds: names of what is found, in the order of the logits.
    """

    kinds: Sequence[str]

    @property
    def spec(self) -> ImageSpec:
        """What the detector takes; it gives no image."""
        return ImageSpec(scale=1, in_channels=3, out_channels=0)

    @abstractmethod
    def forward(self, x_BCHW: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Logits (B, Q, K) and boxes (B, Q, 4) of each step, the best last.

        Boxes are centre x, y, width and height in shares of the image's sides.
        """

    @torch.no_grad()
    def find(self, x_BCHW: torch.Tensor, *, min_score: float = 0.05) -> list[list[Finding]]:
        """What is in each image, the surest first; images are seen whole, in evaluation mode."""
        training = self.training
        try:
            logits_BQK, boxes_BQ4 = self.eval()(x_BCHW)[-1]
        finally:
            self.train(training)
        height, width = x_BCHW.shape[-2:]
        sides = torch.tensor([width, height] * 2, device=x_BCHW.device)
        corners_BQ4 = torch.minimum((to_corners(boxes_BQ4.float()) * sides).clamp(min=0), sides).cpu()
        found = []
        for scores_QK, corners_Q4 in zip(logits_BQK.float().sigmoid().cpu(), corners_BQ4, strict=True):
            rows, kinds = (scores_QK >= min_score).nonzero(as_tuple=True)
            scores = scores_QK[rows, kinds].tolist()
            boxes = [tuple(box) for box in corners_Q4[rows].tolist()]
            each = [Finding(self.kinds[k], b, s) for k, b, s in zip(kinds.tolist(), boxes, scores, strict=True)]
            found.append(without_repeats(each))
        return found


def without_repeats(findings: Sequence[Finding], *, most_iou: float = 0.6, most_inside: float = 0.8) -> list[Finding]:
    """The findings, the surest first, without those that a surer one of their kind covers.

    Args:
        findings: of one image.
        most_iou: intersection over union up to which both stay.
        most_inside: share of the smaller one's area inside the other up to which both stay.
    """
    ranked = sorted(findings, key=lambda each: -each.score)
    if not ranked:
        return []
    boxes = torch.tensor([each.box for each in ranked], dtype=torch.float32)
    common = iou(boxes[:, None], boxes[None])
    smaller = torch.minimum(*torch.broadcast_tensors(box_areas(boxes)[:, None], box_areas(boxes)[None]))
    inside = intersections(boxes[:, None], boxes[None]) / smaller.clamp(min=1e-6)
    covers = ((common > most_iou) | (inside > most_inside)).tolist()
    kept: list[int] = []
    for index, each in enumerate(ranked):
        if not any(covers[index][other] and ranked[other].kind == each.kind for other in kept):
            kept.append(index)
    return [ranked[index] for index in kept]
