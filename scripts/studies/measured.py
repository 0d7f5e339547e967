"""PSNR of a restorer on the middle of the images of a dataset: what studies share."""

from __future__ import annotations

import numpy as np

from restore.assembly.datasets import evaluation_sets
from restore.images import convert_depth
from restore.metrics import psnr


def dataset_of(options):
    """The first of the datasets `test`, or of `val`."""
    return evaluation_sets(options)[0]


def middle(image, side: int | None):
    """The middle square of a (H, W, C) image; all of it where `side` is None."""
    if side is None:
        return image
    top, left = (max(whole - side, 0) // 2 for whole in image.shape[:2])
    return image[top : top + side, left : left + side]


def psnr_of(restorer, sample, side: int | None, scale: int = 1) -> float:
    """Of one image in [0, 1]; of an enlarged one, `side` is that of the input."""
    lq, gt = middle(sample["lq"], side), middle(sample["gt"], side and side * scale)
    restored, gt = (convert_depth(np.ascontiguousarray(each), np.float32) for each in (restorer(lq), gt))
    return psnr(restored.clip(0, 1), gt)
