"""How large a result is: as the network makes it, or resized after the network to what was asked for."""

from __future__ import annotations

import logging
import math
import re
from dataclasses import dataclass, field

from restore.errors import OptionsError

__all__ = ["Sizing", "sizing_of"]

LARGEST_SCALE = 64
LARGEST_SIDE_PX = 100_000
ROUNDING_PX = 1  # by which a side may differ from the exact proportions
logger = logging.getLogger(__name__)


@dataclass
class Sizing:
    """The size of results.

    Attributes:
        outscale: output pixels per input pixel, along each side; None for the network's own.
        width: of the results; None: by the height, in the image's proportions.
        height: of the results; None: by the width.
    """

    outscale: float | None = None
    width: int | None = None
    height: int | None = None
    _told: bool = field(default=False, compare=False)

    def size_of(self, height: int, width: int, scale: int) -> tuple[int, int]:
        """(H, W) of the result of an image of this size, from a network of this scale."""
        if self.outscale is not None:
            return tuple(max(1, round(side * self.outscale)) for side in (height, width))  # type: ignore[return-value]
        if self.width is None and self.height is None:
            return height * scale, width * scale
        if self.width is None or self.height is None:
            factor = self.height / height if self.height else (self.width or 0) / width
            return self.height or max(1, round(height * factor)), self.width or max(1, round(width * factor))
        self._say_distorted(height, width)
        return self.height, self.width

    def describe(self) -> str:
        """What is not usual, for a log."""
        if self.outscale is not None:
            return f", resized to {self.outscale:g} times the input"
        if self.width is None and self.height is None:
            return ""
        return f", resized to {self.width or ''}x{self.height or ''}"

    def _say_distorted(self, height: int, width: int) -> None:
        assert self.width is not None
        assert self.height is not None
        exact = self.width * height / width
        if abs(exact - self.height) > ROUNDING_PX and not self._told:
            self._told = True
            logger.warning(
                "warning: %dx%d has other proportions than an input of %dx%d, which is stretched: %dx or x%d keeps "
                "them.",
                *(self.width, self.height, width, height, self.width, self.height),
            )


def sizing_of(outscale: float | None = None, size: str | tuple[int, int] | None = None) -> Sizing:
    """The size that is asked for.

    Args:
        outscale: output pixels per input pixel.
        size: `(width, height)`, or `WIDTHxHEIGHT`, `WIDTHx` or `xHEIGHT`.

    Raises:
        OptionsError: one of them is not allowed, or both are given.
    """
    if outscale is not None and size is not None:
        raise OptionsError("outscale and size both say how large results are: give one of them.")
    if outscale is not None and not (math.isfinite(outscale) and 0 < outscale <= LARGEST_SCALE):
        raise OptionsError(f"outscale is {outscale:g}: must be greater than 0 and at most {LARGEST_SCALE}.")
    if size is None:
        return Sizing(outscale)
    written = size if isinstance(size, str) else "x".join(map(str, size))
    found = re.fullmatch(r"([0-9]{1,9})?[xX×]([0-9]{1,9})?", written, re.ASCII)
    sides = [int(side) for side in found.groups() if side] if found else []
    if not found or not sides or not all(0 < side <= LARGEST_SIDE_PX for side in sides):
        raise OptionsError(
            f"size is '{written}': must be WIDTHxHEIGHT, WIDTHx or xHEIGHT, such as 1920x1080, with sides of 1 to "
            f"{LARGEST_SIDE_PX} px."
        )
    width, height = (int(side) if side else None for side in found.groups())
    return Sizing(None, width, height)
