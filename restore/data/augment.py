"""Crops and the eight symmetries of the square, the same for every image of a pair."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from restore.images import PngRows

__all__ = ["Colours", "Crop", "Symmetry", "random_crop"]


class Crop(NamedTuple):
    """A rectangle of an image, in pixels."""

    top: int
    left: int
    height: int
    width: int

    def of(self, pixels: np.ndarray | PngRows) -> np.ndarray:
        """The part of `pixels` (H, W[, C]) inside the rectangle: a view of an array, decoded of a file."""
        return pixels[self.top : self.top + self.height, self.left : self.left + self.width]

    def scaled(self, scale: int) -> Crop:
        """The same rectangle in an image `scale` times as large."""
        return Crop(*(value * scale for value in self))


class Symmetry(NamedTuple):
    """One of the eight symmetries of the square: mirror left-right, then top-bottom, then swap the axes."""

    mirror: bool = False
    flip: bool = False
    transpose: bool = False

    @classmethod
    def draw(cls, random: np.random.Generator, *, mirror: bool, rotate: bool) -> Symmetry:
        """A random one, as BasicSR draws it: `use_hflip` allows mirroring, `use_rot` the other two."""
        coins = random.random(3) < 0.5
        return cls(bool(mirror and coins[0]), bool(rotate and coins[1]), bool(rotate and coins[2]))

    def of(self, pixels: np.ndarray) -> np.ndarray:
        """The transformed view of `pixels` (H, W[, C])."""
        if self.mirror:
            pixels = pixels[:, ::-1]
        if self.flip:
            pixels = pixels[::-1]
        return pixels.swapaxes(0, 1) if self.transpose else pixels


class Colours(NamedTuple):
    """Another order of the channels, and the negative: what changes colours and neither detail nor damage.

    Attributes:
        order: which channel stands at each place.
        negative: whether white becomes black.
    """

    order: tuple[int, ...] = (0, 1, 2)
    negative: bool = False

    @classmethod
    def draw(cls, random: np.random.Generator) -> Colours:
        """A random one of the twelve."""
        return cls(tuple(int(each) for each in random.permutation(3)), bool(random.random() < 0.5))

    def of(self, pixels: np.ndarray) -> np.ndarray:
        """The changed `pixels` (H, W, 3), of the same type; floats are in [0, 1]."""
        pixels = pixels[..., list(self.order)]
        if not self.negative:
            return pixels
        white = np.iinfo(pixels.dtype).max if np.issubdtype(pixels.dtype, np.integer) else 1
        return (white - pixels).astype(pixels.dtype)


def random_crop(random: np.random.Generator, height: int, width: int, size: int) -> Crop:
    """A square of side `size` somewhere in an image of `height` x `width`, which must be large enough."""
    return Crop(int(random.integers(height - size + 1)), int(random.integers(width - size + 1)), size, size)
