"""Padding policies by name: how an image of any size is put into the frame that a network accepts.

A policy maps the size of an image to a `Frame`: for each row and column of the frame, which row and column of the image
lies there. Nothing is copied until `pad` (or a reader of tiles) gathers them.

    name       beyond the image                      size of the frame                        used by
    reflect    mirror image, edge not repeated       least multiple                           SwinIR's own forward
    flip       mirror image, edge repeated           next multiple, even of one that is       SwinIR's and EDT's scripts
    square     zeros, on all sides                   square, least multiple of longer side
    square128  the same                              the same, a multiple of 128              Uformer's scripts
    replicate  last row and column                   least multiple
    zeros      zeros                                 least multiple
    none       nothing                               that of the image

All but the squares extend to the bottom and right only. Mirroring repeats as often as needed, so any image of at least
one pixel can be padded to any size; one pixel is repeated.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from restore.errors import ImageError, nearest

__all__ = ["PADDINGS", "Frame", "crop", "frame", "pad"]


@dataclass(frozen=True)
class Frame:
    """An image in its frame.

    Attributes:
        index: for each row and for each column of the frame, that of the image which lies there; -1 for zeros.
        offset: row and column of the frame at which the image begins.
        image_size: height and width of the image.
    """

    index: tuple[np.ndarray, np.ndarray]
    offset: tuple[int, int]
    image_size: tuple[int, int]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the frame."""
        return len(self.index[0]), len(self.index[1])


def frame(height: int, width: int, policy: str, multiple: int = 1, minimum: int = 1) -> Frame:
    """The frame of an image.

    Args:
        height: of the image, in pixels.
        width: of the image, in pixels.
        policy: a name in `PADDINGS`.
        multiple: the frame's height and width are multiples of this (except under `none`).
        minimum: and at least this.

    Raises:
        ImageError: the policy is unknown, or a size is below 1.
    """
    if policy not in PADDINGS:
        raise ImageError(f"unknown padding '{policy}'.{nearest(policy, PADDINGS)} Known: {', '.join(PADDINGS)}.")
    if min(height, width, multiple, minimum) < 1:
        raise ImageError(f"cannot pad {height}x{width} to a multiple of {multiple} of at least {minimum}: below 1")
    return PADDINGS[policy]((height, width), multiple, minimum)


def pad(x_BCHW: Tensor, policy: str, multiple: int = 1, minimum: int = 1) -> tuple[Tensor, Frame]:
    """A batch in its frame, and the frame, which `crop` needs. See `frame` for the arguments."""
    framed = frame(*x_BCHW.shape[-2:], policy, multiple, minimum)
    for axis, index in zip((-2, -1), framed.index, strict=True):
        length = x_BCHW.shape[axis]
        if np.array_equal(index, np.arange(length)):
            continue
        position = torch.from_numpy(index).to(x_BCHW.device)
        x_BCHW = x_BCHW.index_select(axis, position.clamp_min(0))
        if (index < 0).any():
            outside = position < 0
            x_BCHW = x_BCHW.masked_fill(outside[:, None] if axis == -2 else outside, 0)
    return x_BCHW, framed


def crop(y_BCHW: Tensor, framed: Frame, scale: int = 1) -> Tensor:
    """The image's part (a view) of a frame that a network has enlarged `scale` times.

    Raises:
        ImageError: `y_BCHW` is not that large.
    """
    expected = tuple(scale * length for length in framed.size)
    if tuple(y_BCHW.shape[-2:]) != expected:
        raise ImageError(
            f"a frame of {framed.size} enlarged {scale} times is {expected}, not {tuple(y_BCHW.shape[-2:])}"
        )
    top, left = (scale * start for start in framed.offset)
    height, width = (scale * length for length in framed.image_size)
    return y_BCHW[..., top : top + height, left : left + width]


Extend = Callable[[int, int], np.ndarray]


def _mirror(length: int, full: int) -> np.ndarray:
    """0 1 2 1 0 1 2 ..."""
    index = np.arange(full) % max(2 * (length - 1), 1)
    return np.minimum(index, 2 * (length - 1) - index) if length > 1 else index


def _flip(length: int, full: int) -> np.ndarray:
    """0 1 2 2 1 0 0 1 2 ..."""
    index = np.arange(full) % (2 * length)
    return np.minimum(index, 2 * length - 1 - index)


def _replicate(length: int, full: int) -> np.ndarray:
    return np.minimum(np.arange(full), length - 1)


def _zeros(length: int, full: int) -> np.ndarray:
    index = np.arange(full)
    return np.where(index < length, index, -1)


def _least(length: int, multiple: int, minimum: int) -> int:
    return math.ceil(max(length, minimum) / multiple) * multiple


def _next(length: int, multiple: int, minimum: int) -> int:
    return max((length // multiple + 1) * multiple, _least(length, multiple, minimum))


def _own(length: int, multiple: int, minimum: int) -> int:
    return length


Policy = Callable[[tuple[int, int], int, int], Frame]


def _bottom_right(extend: Extend, full_length: Callable[[int, int, int], int]) -> Policy:
    def policy(size: tuple[int, int], multiple: int, minimum: int) -> Frame:
        rows, columns = (extend(length, full_length(length, multiple, minimum)) for length in size)
        return Frame((rows, columns), (0, 0), size)

    return policy


def _square(factor: int) -> Policy:
    def policy(size: tuple[int, int], multiple: int, minimum: int) -> Frame:
        side = _least(max(size), math.lcm(factor, multiple), minimum)
        top, left = ((side - length) // 2 for length in size)
        positions = np.arange(side) - top, np.arange(side) - left
        rows, columns = (
            np.where((position >= 0) & (position < length), position, -1)
            for position, length in zip(positions, size, strict=True)
        )
        return Frame((rows, columns), (top, left), size)

    return policy


PADDINGS: dict[str, Policy] = {
    "reflect": _bottom_right(_mirror, _least),
    "flip": _bottom_right(_flip, _next),
    "square": _square(1),
    "square128": _square(128),
    "replicate": _bottom_right(_replicate, _least),
    "zeros": _bottom_right(_zeros, _least),
    "none": _bottom_right(_replicate, _own),
}
"""Padding policies: functions of the image's size, the multiple and the minimum."""
