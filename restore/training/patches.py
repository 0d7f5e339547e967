"""Pictures of a run: the same patches of validation images at every validation, input, result and reference abreast."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from restore.images import convert_depth

__all__ = ["Patches"]


class Patches:
    """Sends the middle of the first images of each validation set to whatever shows images.

    Args:
        sinks: those that have a method `image(name, pixels, iteration)` are called, with (H, W, C) of uint8; the list
            may grow later.
        count: images of each set; of those that the main process validates.
        side_px: largest side of a patch of the result.
    """

    def __init__(self, sinks: Sequence[Any], count: int = 4, side_px: int = 192):
        self.sinks = sinks
        self.count = count
        self.side_px = side_px

    def __call__(
        self, name: str, index: int, lq: np.ndarray, restored: np.ndarray, gt: np.ndarray | None, iteration: int
    ) -> None:
        """Show the patch of image `index`, which is called `name`, if it is one of the first."""
        showing = [sink for sink in self.sinks if hasattr(sink, "image")]
        if index >= self.count or not showing:
            return
        scale = restored.shape[0] // lq.shape[0]
        enlarged = np.atleast_3d(lq).repeat(scale, 0).repeat(scale, 1)
        pictures = [enlarged, restored] if gt is None else [enlarged, restored, gt]
        patch = np.concatenate([self._middle(pixels, restored.shape) for pixels in pictures], axis=1)
        for sink in showing:
            sink.image(name, patch, iteration)

    def _middle(self, pixels: np.ndarray, shape: Sequence[int]) -> np.ndarray:
        height, width = (min(side, self.side_px) for side in shape[:2])
        top, left = (shape[0] - height) // 2, (shape[1] - width) // 2
        patch = np.atleast_3d(pixels)[top : top + height, left : left + width]
        return patch if patch.dtype == np.uint8 else convert_depth(patch, np.uint8).reshape(patch.shape)
