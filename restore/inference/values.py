"""The values of float images on their way to a network, which sees [0, 1], and of results on their way back.

Integers know their white. Floats may be anything: what is not finite or leaves the range is refused, scaled, clipped or
filled as was asked for, and never in silence.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from restore.errors import ImageError, OptionsError
from restore.images import to_pixels
from restore.images.image import range_of, require_alpha, wrong_values

__all__ = ["Values"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Values:
    """What float values mean, and in which depth results come.

    Attributes:
        input_range: the values of float images that stand for black and white; None: 0 and 1, and nothing beyond.
        depth: of results: uint8, uint16 or float32; None for that of the input.
        fill: replace pixels of float images that are not finite by the nearest that are.
        beyond: let float values beyond [0, 1] through to the network, as images with added noise have them.

    Raises:
        OptionsError: the range is empty or not finite, or there is no such depth.
    """

    input_range: tuple[float, float] | None = None
    depth: str | None = None
    fill: bool = False
    beyond: bool = False

    def __post_init__(self) -> None:
        if self.depth not in (None, "uint8", "uint16", "float32"):
            raise OptionsError(f"depth is '{self.depth}': must be uint8, uint16, float32 or None.")
        if self.input_range is not None:
            low, high = self.input_range
            if not (np.isfinite([low, high]).all() and low < high):
                raise OptionsError(f"input_range is {low:g},{high:g}: must be two numbers, the smaller one first.")

    @property
    def white(self) -> float:
        """The value that stands for white in float images."""
        return 1.0 if self.input_range is None else self.input_range[1]

    def depth_of(self, dtype: np.dtype[Any]) -> np.dtype[Any]:
        """The depth of the result of an image of this depth."""
        return np.dtype(self.depth or dtype)

    def describe(self) -> str:
        """What is not usual, for a log."""
        scaled = "" if self.input_range is None else f", floats of {self.input_range[0]:g} to {self.input_range[1]:g}"
        return scaled + (f", results in {self.depth}" if self.depth else "")

    def taken(self, pixels: np.ndarray, alpha: bool, name: str = "the image") -> np.ndarray:
        """Pixels as they are, or floats with black at 0 and white at 1.

        Args:
            pixels: (H, W) or (H, W, C).
            alpha: whether the last channel is alpha, which is in [0, 1] whatever the range of the colours.
            name: what to call the image.

        Raises:
            ImageError: float values that are not finite, or beyond the range.
        """
        if pixels.dtype.kind != "f":
            return pixels
        if self.fill:
            pixels = _filled(pixels, name)
        if wrong := wrong_values(pixels):
            raise ImageError(f"{name} {wrong}. --fill-nan of restore run (fill=True in Python) gives such pixels the "
                             "values of the nearest others.")  # fmt: skip
        if self.beyond:
            return pixels
        if alpha:
            require_alpha(pixels[..., -1], name)
        colours = pixels[..., :-1] if alpha else pixels
        if self.input_range is None:
            if wrong := wrong_values(colours, unit=True):
                low, high = _suggested(colours)
                raise ImageError(
                    f"{name} {wrong}. --input-range={low:g},{high:g} of restore run (input_range=({low:g}, {high:g}) "
                    "in Python) scales them there and the result back; 0,1 clips them."
                )
            return pixels
        low, high = self.input_range
        _say_clipped(colours, low, high, name)
        taken = np.clip((colours - np.float32(low)) / np.float32(high - low), 0, 1)
        return np.concatenate([taken, pixels[..., -1:]], axis=-1) if alpha else taken

    def given(self, x_CHW: torch.Tensor, dtype: np.dtype[Any], alpha: bool) -> np.ndarray:
        """Restored values, 0 black and 1 white, as pixels of the result of an image of depth `dtype`."""
        pixels = to_pixels(x_CHW[None], self.depth_of(dtype))
        if self.input_range is None or dtype.kind != "f" or pixels.dtype.kind != "f":
            return pixels
        low, high = self.input_range
        colours = pixels[..., :-1] if alpha else pixels
        colours *= np.float32(high - low)
        colours += np.float32(low)
        return pixels


def _say_clipped(colours: np.ndarray, low: float, high: float, name: str) -> None:
    clipped = np.count_nonzero((colours < low) | (colours > high))
    if clipped:
        least, most = range_of(colours)
        logger.warning("%s: %d of %d values are beyond the input range of %g to %g and are clipped; they reach from %g "
                       "to %g", name, clipped, colours.size, low, high, least, most)  # fmt: skip


def _suggested(colours: np.ndarray) -> tuple[float, float]:
    """A range that holds all values: of 8 or 16 bits where they look like it."""
    least, most = range_of(colours)
    whites = (white for white in (1.0, 255.0, 65535.0) if white / 2 < most <= white)
    return min(least, 0.0), next(whites, most if most > 0 else 1.0)


def _filled(pixels: np.ndarray, name: str) -> np.ndarray:
    """The image with each pixel that is not finite, in any channel, as the nearest that is."""
    hole = ~np.isfinite(pixels)
    hole = hole.any(axis=-1) if hole.ndim == 3 else hole
    if not hole.any() or hole.all():
        return pixels
    logger.warning("%s: %d pixels are not finite and are filled from the nearest others", name, np.count_nonzero(hole))
    from scipy import ndimage

    nearest = ndimage.distance_transform_edt(hole, return_distances=False, return_indices=True)
    return np.ascontiguousarray(pixels[tuple(nearest)])
