"""What a network reaches on a few images, for networks to be compared by."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from restore.images import convert_depth
from restore.inference import Restorer

__all__ = ["Comparison"]


class Comparison:
    """The mean of a metric over the middles of the images of a dataset.

    Args:
        dataset: samples with `lq` and `gt`.
        metric: of (restored, reference) as (H, W, C).
        higher_is_better: of the metric.
        scale: of the reference to the input.
        crop_px: side of the middle, of the input; None for whole images.
        max_images: how many images; None for all.
        runtime: how images go through networks.
    """

    def __init__(
        self,
        dataset: Any,
        metric: Callable[[np.ndarray, np.ndarray], float],
        *,
        higher_is_better: bool = True,
        scale: int = 1,
        crop_px: int | None = None,
        max_images: int | None = None,
        runtime: Mapping[str, Any] | None = None,
    ):
        self.metric, self.sign, self.runtime = metric, 1 if higher_is_better else -1, dict(runtime or {})
        count = min(len(dataset), max_images or len(dataset))
        samples = [dataset[index] for index in range(count)]
        self.pairs = [
            (_middle(each["lq"], crop_px), _middle(each["gt"], crop_px and crop_px * scale)) for each in samples
        ]

    @torch.no_grad()
    def __call__(self, network: nn.Module) -> float:
        """More is better: of a metric of which less is, the negative."""
        restorer = Restorer(network.eval(), **{"channels_last": False, **self.runtime}).measuring()
        return self.sign * statistics.fmean(self._of(restorer(lq), gt) for lq, gt in self.pairs)

    def _of(self, restored: np.ndarray, gt: np.ndarray) -> float:
        if restored.dtype == np.float32:  # noisy inputs are floats
            restored = convert_depth(restored, gt.dtype).reshape(restored.shape)
        return float(self.metric(restored, gt))


def _middle(image: np.ndarray, side: int | None) -> np.ndarray:
    """The middle square of a (H, W, C) image, or what there is of it."""
    if side is None:
        return image
    top, left = (max(whole - side, 0) // 2 for whole in image.shape[:2])
    return np.ascontiguousarray(image[top : top + side, left : left + side])
