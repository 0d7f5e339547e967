"""Resizing an image whose rows come from top to bottom: what is held are the rows that the kernel reaches."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from restore.images import compiled
from restore.images.resizing import axis_matrix, axis_sums, product, resize, shrinking_order

__all__ = ["RowResizer"]


class RowResizer:
    """Resizes an image in bands of rows, to what `restore.images.resize` gives of the whole, cubic and antialiased.

    Where it shrinks by far, sums have another order, and the last digit may differ.

    Args:
        size: (H, W) of the image.
        target: (H, W) of the result.
    """

    def __init__(self, size: Sequence[int], target: Sequence[int]):
        self._scales = [new / old for new, old in zip(target, size, strict=True)]
        self._width, self._columns_first = target[1], shrinking_order(self._scales)[0] == 1
        how = (size[0], target[0], self._scales[0], "cubic", True)
        self._matrix = axis_matrix(*how) if size[0] != target[0] else None
        self._sums = axis_sums(*how, False) if self._matrix is not None else None
        if self._matrix is None:
            first = last = np.arange(target[0])
        elif self._sums is not None:
            first, last = self._sums.first, self._sums.first + self._sums.weights.shape[1] - 1
        else:
            first, last = (self._matrix.indices[at] for at in (self._matrix.indptr[:-1], self._matrix.indptr[1:] - 1))
        self._last = np.maximum.accumulate(last)  # row of the image that a row of the result waits for
        self._first = np.append(np.minimum.accumulate(first[::-1])[::-1], size[0])  # that it and those below begin at
        self._held: torch.Tensor | None = None
        self._top = self._done = 0  # the first row that is held, and the rows that were given

    def add(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """The rows of the result that the next rows of the image, (B, C, rows, W) in float32, complete; maybe none."""
        x_BCHW = self._across(x_BCHW) if self._columns_first else x_BCHW
        held = x_BCHW if self._held is None else torch.cat([self._held, x_BCHW], dim=-2)
        stop = int(np.searchsorted(self._last, self._top + held.shape[-2]))
        rows = self._down(held, stop)
        left = int(self._first[stop]) - self._top
        self._held, self._top, self._done = held[..., left:, :].clone(), self._top + left, stop
        return rows if self._columns_first else self._across(rows)

    def _across(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        *shape, rows, _ = x_BCHW.shape
        if not rows:
            return x_BCHW.new_empty(*shape, rows, self._width)
        return resize(x_BCHW, scale=(1.0, self._scales[1]), size=(rows, self._width))

    def _down(self, held: torch.Tensor, stop: int) -> torch.Tensor:
        """The rows of the result up to `stop`, from the rows that are held."""
        chosen, top = slice(self._done, stop), self._top
        if self._matrix is None:
            return held[..., self._done - top : stop - top, :]
        if self._done == stop:
            return held[..., :0, :]
        planes_NRC = held.flatten(0, 1).contiguous()
        result = None
        if self._sums is not None and held.device.type == "cpu":
            sums = compiled.Sums(self._sums.first[chosen] - np.int32(top), self._sums.weights[chosen])
            summed = compiled.resized(planes_NRC.numpy(), sums, 0)
            result = None if summed is None else torch.from_numpy(summed)
        if result is None:
            result = product(self._matrix[chosen, top : top + held.shape[-2]], planes_NRC)
        return result.unflatten(0, held.shape[:2])
