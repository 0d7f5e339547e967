"""Resizing: the three interpolations of Real-ESRGAN and BSRGAN, MATLAB's antialiased bicubic, nearest, and others.

`area`, `bilinear` and `bicubic` mean what `torch.nn.functional.interpolate` does with the same name (no antialiasing;
bicubic with a = -0.75); `area` is the mean over each output pixel's bin. OpenCV computes the same bilinear and bicubic.
`nearest_exact`, `antialiased_bilinear`, `antialiased_bicubic` and `lanczos` are those of traiNNer-redux (2023), which
keep to [0, 1]: torch's own with `antialias`, and a low-pass of windowed sinc (three lobes) before a plain bicubic.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Annotated, Literal, get_args

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from scipy import sparse

from restore.degradations.operators.base import Operator, on_images, operator, uses_opencv
from restore.images import resize as matlab_resize

__all__ = ["INTERPOLATIONS", "Resize"]

_Plain = Literal["area", "bilinear", "bicubic", "matlab_bicubic", "nearest"]
_Further = Literal["nearest_exact", "antialiased_bilinear", "antialiased_bicubic", "lanczos"]
Interpolation = Literal[_Plain, _Further]
INTERPOLATIONS: tuple[str, ...] = get_args(Interpolation)
_LOBES = 3
_OPENCV = {"bilinear": cv2.INTER_LINEAR, "bicubic": cv2.INTER_CUBIC}


@operator("resize")
class Resize(Operator):
    """Resize by `factor`, or to `of_gt` times the size of the original; sides are rounded down, to at least one pixel.

    Raises:
        ValueError: neither or both of `factor` and `of_gt` are given.
    """

    factor: Annotated[float, Field(gt=0)] | None = None
    of_gt: Annotated[float, Field(gt=0)] | None = None
    interpolation: Interpolation = "bicubic"
    gt_px: tuple[int, int] | None = None

    def __post_init__(self):
        if (self.factor is None) == (self.of_gt is None):
            raise ValueError("give one of `factor` (of the present size) and `of_gt` (of the original's size)")

    def group(self) -> tuple[float | None, float | None, str, tuple[int, int] | None]:
        """Everything that decides the result's size and how it is computed."""
        return self.factor, self.of_gt, self.interpolation, self.gt_px

    def target_px(self, height: int, width: int) -> tuple[int, int]:
        """The size after resizing an image of the given size."""
        if self.factor is not None:
            factor, sides = self.factor, (height, width)
        else:
            factor, sides = self.of_gt, self.gt_px or (height, width)
        return tuple(max(1, int(side * factor + 1e-6)) for side in sides)

    @classmethod
    def apply(cls, x_BCHW: torch.Tensor, samples: Sequence[Resize]) -> torch.Tensor:
        """Resize a batch whose samples agree; values may leave [0, 1] a little where the kernel has negative parts."""
        first = samples[0]
        size = first.target_px(*x_BCHW.shape[-2:])
        if first.interpolation == "matlab_bicubic":
            return matlab_resize(x_BCHW, size=size, kernel="cubic", antialias=True)
        if size == tuple(x_BCHW.shape[-2:]):
            return x_BCHW
        if uses_opencv(x_BCHW) and first.interpolation in ("area", *_OPENCV):
            return on_images(x_BCHW, samples)
        if first.interpolation == "lanczos":
            return F.interpolate(_without_what_shrinks_away(x_BCHW, size), size=size, mode="bicubic").clamp(0, 1)
        mode = first.interpolation.removeprefix("antialiased_")
        if mode != first.interpolation:
            return F.interpolate(x_BCHW, size=size, mode=mode, antialias=True).clamp(0, 1)
        return F.interpolate(x_BCHW, size=size, mode=mode.replace("_", "-"))

    def on_pixels(self, image: np.ndarray) -> np.ndarray:
        """Resize one image."""
        size = self.target_px(*image.shape[:2])
        if self.interpolation in _OPENCV:
            return cv2.resize(image, size[::-1], interpolation=_OPENCV[self.interpolation])
        return _area(image, size) if self.interpolation == "area" else super().on_pixels(image)


def _without_what_shrinks_away(x_BCHW: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """A low-pass along each side that becomes smaller, with mirrored borders."""
    planes = x_BCHW.flatten(0, 1)[:, None]
    for axis, new_length in enumerate(size):
        ratio = new_length / x_BCHW.shape[2 + axis]
        if ratio < 1:
            taps = _windowed_sinc(ratio).to(planes)
            border = [0, 0, len(taps) // 2, len(taps) // 2] if axis == 0 else [len(taps) // 2, len(taps) // 2, 0, 0]
            planes = F.conv2d(F.pad(planes, border, "reflect"), taps.view(1, 1, *((-1, 1) if axis == 0 else (1, -1))))
    return planes.view_as(x_BCHW)


@functools.lru_cache(maxsize=256)
def _windowed_sinc(ratio: float) -> torch.Tensor:
    """Taps of the low-pass for a side that shrinks to `ratio`, an odd number, which sum to one."""
    reach = math.ceil(_LOBES / ratio + 1) - 2
    distance = torch.arange(-reach, reach + 1, dtype=torch.float64) * ratio
    taps = torch.where(distance.abs() < _LOBES, torch.sinc(distance) * torch.sinc(distance / _LOBES), 0)
    return taps / taps.sum()


def _area(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Mean over bins as sparse matrix products, down and then across; torch's own loop is many times slower."""
    for length, new_length in zip(image.shape[:2], size, strict=True):
        averaged = _bins(length, new_length) @ image.reshape(length, -1)
        image = cv2.transpose(averaged.reshape(new_length, *image.shape[1:]))
    return image


@functools.lru_cache(maxsize=256)
def _bins(length: int, new_length: int) -> sparse.csr_array:
    """(new_length, length): row i averages the pixels floor(i r) up to ceil((i + 1) r), with r the ratio."""
    index = np.arange(new_length)
    start, end = index * length // new_length, -(-(index + 1) * length // new_length)
    counts = end - start
    offsets = np.concatenate([[0], np.cumsum(counts)])
    columns = np.arange(offsets[-1]) + np.repeat(start - offsets[:-1], counts)
    values = np.repeat(1 / counts, counts).astype(np.float32)
    return sparse.csr_array((values, columns, offsets), shape=(new_length, length))
