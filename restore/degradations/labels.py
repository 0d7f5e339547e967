"""Where the defects of a degraded image are: the boxes of what its operators pasted.

image_CHW, labels = pasted(photograph_CHW, pipeline.operators(seed, (height, width)))
[(label.kind, label.box) for label in labels]
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch

from restore.degradations.operators.base import Operator
from restore.degradations.operators.defects import Box, Defect

__all__ = ["Label", "pasted"]

_CHANGED = 1 / 255


class Label(NamedTuple):
    """What was pasted, and its left, top, right and bottom in pixels."""

    kind: str
    box: Box


def pasted(x_CHW: torch.Tensor, operators: Iterable[Operator]) -> tuple[torch.Tensor, list[Label]]:
    """An image after some operators, and a label for each defect that they pasted.

    A defect that nobody could see has none, such as a white scratch in a white sky: those pixels of its box that change
    must do so by `least_change` of its operator on average (over the channels the largest).

    Args:
        x_CHW: in [0, 1]; operators must keep its size.
    """
    labels = []
    for each in operators:
        before, x_CHW = x_CHW, each(x_CHW[None])[0]
        if not isinstance(each, Defect):
            continue
        change_HW = (x_CHW - before).abs().amax(dim=0)
        for box in each.boxes(*x_CHW.shape[-2:]):
            left, top, right, bottom = box
            inside = change_HW[top:bottom, left:right]
            changed = inside[inside > _CHANGED]
            if changed.numel() and changed.mean() >= each.least_change:
                labels.append(Label(each.kind, box))
    return x_CHW, labels
