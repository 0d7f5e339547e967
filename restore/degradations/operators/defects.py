"""Defects of scans and photographs, each of which says where it is: scratches, dust, hot pixels, stamped text, blocks.

What an operator draws, and where, follows from its parameters and the size of the image alone, so that `boxes` is the
label of what `apply` does: see `restore.degradations.labels`. Lengths are in pixels of the image.
"""

from __future__ import annotations

import functools
import math
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, ClassVar, Literal, NamedTuple

import cv2
import numpy as np
import torch
from pydantic import Field

from restore.degradations.operators.base import Operator, operator
from restore.degradations.operators.compression import Jpeg
from restore.degradations.operators.noise import luma

__all__ = ["Box", "Defect", "Dust", "HotPixels", "JpegBlocks", "Scratches", "StampedText"]

Box = tuple[int, int, int, int]  # left, top, right, bottom: the last two are beyond the last column and row
Colour = tuple[float, float, float]
Number = Annotated[int, Field(ge=0, le=10_000)]
Part = Annotated[float, Field(ge=0, le=1)]

_FINER = 4  # lines are drawn in pixels of a quarter, and reduced
_FRACTION = 4  # binary places of a point
_SEEN = 0.1  # of the strongest cover: what is fainter is not counted to the box


class Mark(NamedTuple):
    """Something drawn over an image: where it begins, how much it covers, (H, W) in [0, 1], and its colour."""

    top: int
    left: int
    cover: np.ndarray
    colour: Colour

    @property
    def box(self) -> Box:
        """Around all that can be seen of it."""
        rows, columns = np.nonzero(self.cover > _SEEN * self.cover.max())
        left, top = self.left + int(columns.min()), self.top + int(rows.min())
        return left, top, self.left + int(columns.max()) + 1, self.top + int(rows.max()) + 1


class Defect(Operator):
    """Base of operators that paste something and can say where.

    Attributes:
        kind: what a detector calls it.
        least_change: of a defect that can be seen, on [0, 1]: the mean change of those pixels in its box that change.
    """

    kind: ClassVar[str]
    least_change: ClassVar[float] = 0.06

    @abstractmethod
    def boxes(self, height: int, width: int) -> list[Box]:
        """Where `apply` changes an image of this size: one box for each scratch, speck, pixel, line of text or area."""


class Drawn(Defect):
    """Base of defects that are drawn over the image: a subclass says what its marks are."""

    @abstractmethod
    def marks(self, height: int, width: int) -> Iterator[Mark | None]:
        """What is drawn on an image of this size; None for what lies outside."""

    def boxes(self, height: int, width: int) -> list[Box]:
        """One box for each mark."""
        return [mark.box for mark in _marks(self, height, width)]

    @classmethod
    def apply(cls, x_BCHW: torch.Tensor, samples: Sequence[Drawn]) -> torch.Tensor:
        """Draw every mark; where it covers a part, the rest of the image is seen through it."""
        result = x_BCHW.clone()
        height, width = x_BCHW.shape[-2:]
        for image_CHW, sample in zip(result, samples, strict=True):
            for mark in _marks(sample, height, width):
                rows, columns = mark.cover.shape
                part = image_CHW[:, mark.top : mark.top + rows, mark.left : mark.left + columns]
                colour = torch.tensor(mark.colour).view(1, 3, 1, 1).to(part)
                colour = colour[0] if len(part) == 3 else luma(colour)[0]
                part.copy_(torch.lerp(part, colour.expand_as(part), torch.from_numpy(mark.cover).to(part)))
        return result


@functools.lru_cache(maxsize=4)
def _marks(sample: Drawn, height: int, width: int) -> list[Mark]:
    """What is seen of the marks; they are drawn once for the image and for its labels."""
    return [mark for mark in sample.marks(height, width) if mark is not None]


@operator("scratches")
class Scratches(Drawn):
    """Thin bent lines, light or dark: what dust and rollers do to film and paper.

    Each begins anywhere, is 0.5 to 1 times `length_px` long and bends by up to `bend` radians; `angle` is its direction
    in radians from the vertical, any where it is not given. `value` is its brightness, 0 black and 1 white, and
    `strength` what it hides of the image.
    """

    kind = "scratch"

    num_scratches: Number = 1
    length_px: Annotated[float, Field(ge=2, le=20_000)] = 80.0
    width_px: Annotated[float, Field(ge=0.25, le=100)] = 1.5
    angle: Annotated[float, Field(ge=-math.pi, le=math.pi)] | None = None
    bend: Annotated[float, Field(ge=0, le=math.pi)] = 0.5
    value: Part = 1.0
    strength: Part = 0.8
    seed: int = 0

    def marks(self, height: int, width: int) -> Iterator[Mark | None]:
        """One line for each scratch."""
        random = np.random.default_rng(self.seed)
        for _ in range(self.num_scratches):
            start, length, turn, direction = random.random(2), *random.random(3)
            angle = 2 * math.pi * direction if self.angle is None else self.angle
            angles = angle + self.bend * (2 * turn - 1) * np.linspace(-0.5, 0.5, 16)
            steps = np.stack([np.sin(angles), np.cos(angles)], axis=1) * self.length_px * (0.5 + length / 2) / 16
            points = start * (width, height) + np.cumsum(steps, axis=0)
            yield _line(points, self.width_px, height, width, self.strength, (self.value,) * 3)


@operator("dust")
class Dust(Drawn):
    """Specks and hairs: dust on a scanner's glass, on film or on a sensor.

    Specks are irregular and 0.5 to 1 times `size_px` wide; a part `hairs` of them are curled hairs instead, three times
    as long. `value` is the brightness, 0 black and 1 white, `strength` what is hidden of the image, and `softness_px`
    the deviation of the blur of dust that is out of focus.
    """

    kind = "dust"

    num_specks: Number = 3
    size_px: Annotated[float, Field(ge=1, le=2_000)] = 8.0
    hairs: Part = 0.25
    value: Part = 0.0
    strength: Part = 0.8
    softness_px: Annotated[float, Field(ge=0, le=50)] = 0.5
    seed: int = 0

    def marks(self, height: int, width: int) -> Iterator[Mark | None]:
        """One for each speck or hair."""
        random = np.random.default_rng(self.seed)
        for _ in range(self.num_specks):
            place, size = random.random(2) * (width, height), self.size_px * (0.5 + random.random() / 2)
            is_hair, shape = random.random() < self.hairs, random.random((12, 2))
            colour = (self.value,) * 3
            if is_hair:
                angles = 2 * math.pi * shape[0, 0] + np.cumsum(1.6 * (shape[:, 1] - 0.5))
                points = place + np.cumsum(np.stack([np.cos(angles), np.sin(angles)], axis=1) * size / 4, axis=0)
                mark = _line(points, max(1.0, size / 12), height, width, self.strength, colour)
            else:
                angles = np.arange(12) * (math.pi / 6)
                radii = size / 2 * (0.6 + 0.4 * shape[:, 0])
                stretched = np.stack([np.cos(angles), (0.5 + shape[0, 1] / 2) * np.sin(angles)], axis=1)
                turned = stretched @ _rotation(2 * math.pi * shape[1, 1])
                mark = _area(place + radii[:, None] * turned, height, width, self.strength, colour)
            yield _softened(mark, self.softness_px, height, width)


@operator("hot_pixels")
class HotPixels(Drawn):
    """Single pixels of a sensor that are bright whatever the light, in a random one of red, green, blue and white.

    With `demosaiced` some of each has gone into its eight neighbours, as a camera that interpolates its colours does.
    """

    kind = "hot_pixel"
    least_change = 0.1

    num_pixels: Number = 3
    strength: Part = 1.0
    demosaiced: bool = True
    seed: int = 0

    def marks(self, height: int, width: int) -> Iterator[Mark | None]:
        """One for each pixel."""
        random = np.random.default_rng(self.seed)
        cover = np.float32([[0.12, 0.35, 0.12], [0.35, 1, 0.35], [0.12, 0.35, 0.12]]) * np.float32(self.strength)
        colours = ((1.0, 0.1, 0.1), (0.1, 1.0, 0.1), (0.2, 0.2, 1.0), (1.0, 1.0, 1.0))
        for _ in range(self.num_pixels):
            row, column, colour = (int(random.integers(end)) for end in (height, width, len(colours)))
            reach, own = (1, cover) if self.demosaiced else (0, cover[1:2, 1:2])
            yield _cut(row - reach, column - reach, own, height, width, colours[colour])


@operator("stamped_text")
class StampedText(Drawn):
    """A line of text, such as the date that a camera burnt into the picture.

    `text` may hold printable ASCII; where it is empty, a date and time is drawn from `seed`, as is the place.
    `height_px` is that of a capital letter; what is wider than the image is cut off at its right.
    """

    kind = "text"

    text: Annotated[str, Field(max_length=80, pattern=r"^[ -~]*$")] = ""
    height_px: Annotated[float, Field(ge=4, le=1_000)] = 14.0
    colour: Literal["white", "black", "orange", "yellow", "red", "green"] = "orange"
    font: Literal["plain", "double", "serif", "script"] = "plain"
    weight: Annotated[float, Field(ge=0.02, le=0.4)] = 0.12
    strength: Part = 0.9
    seed: int = 0

    def marks(self, height: int, width: int) -> Iterator[Mark | None]:
        """The line."""
        random = np.random.default_rng(self.seed)
        text, place = self.text or _a_date(random), random.random(2)
        font, finer = _FONTS[self.font], self.height_px * _FINER
        scale = finer / _capital_px(font)
        thickness = max(1, round(self.weight * finer))
        (across, up), down = cv2.getTextSize(text, font, scale, thickness)
        margin = thickness + _FINER
        sides = up + down + 2 * margin, across + 2 * margin
        canvas = np.zeros([-(-side // _FINER) * _FINER for side in sides], np.uint8)
        cv2.putText(canvas, text, (margin, margin + up), font, scale, 255, thickness, cv2.LINE_AA)
        cover = _reduced(canvas, self.strength)
        top, left = (int(at) for at in place * np.maximum(np.subtract((height, width), cover.shape) + 1, 1))
        yield _cut(top, left, cover, height, width, _COLOURS[self.colour])


@operator("jpeg_blocks")
class JpegBlocks(Defect):
    """Rectangles in which the image was saved as JPEG of a low quality and pasted back, or lost in transmission.

    Each is 0.5 to 1 times `size_px` high and wide; the grid of 8 x 8 blocks begins at its corner.
    """

    kind = "blocks"
    least_change = 0.02

    num_areas: Number = 1
    size_px: Annotated[float, Field(ge=8, le=20_000)] = 64.0
    quality: Annotated[int, Field(ge=1, le=100)] = 8
    codec: Literal["auto", "libjpeg", "tensor"] = "auto"
    seed: int = 0

    def boxes(self, height: int, width: int) -> list[Box]:
        """The rectangles."""
        random, boxes = np.random.default_rng(self.seed), []
        for _ in range(self.num_areas):
            at, sizes = random.random(2), self.size_px * (0.5 + random.random(2) / 2)
            rows, columns = (max(1, min(round(size), side)) for size, side in zip(sizes, (height, width), strict=True))
            top, left = int(at[0] * (height - rows + 1)), int(at[1] * (width - columns + 1))
            boxes.append((left, top, left + columns, top + rows))
        return boxes

    @classmethod
    def apply(cls, x_BCHW: torch.Tensor, samples: Sequence[JpegBlocks]) -> torch.Tensor:
        """Encode and decode the rectangles."""
        result = x_BCHW.clone()
        for index, sample in enumerate(samples):
            jpeg = Jpeg(quality=sample.quality, codec=sample.codec)
            for left, top, right, bottom in sample.boxes(*x_BCHW.shape[-2:]):
                part = (slice(index, index + 1), slice(None), slice(top, bottom), slice(left, right))
                result[part] = jpeg(result[part].clone())
        return result


_FONTS = {
    "plain": cv2.FONT_HERSHEY_SIMPLEX,
    "double": cv2.FONT_HERSHEY_DUPLEX,
    "serif": cv2.FONT_HERSHEY_COMPLEX,
    "script": cv2.FONT_HERSHEY_SCRIPT_SIMPLEX,
}
_COLOURS: dict[str, Colour] = {
    "white": (1.0, 1.0, 1.0),
    "black": (0.0, 0.0, 0.0),
    "orange": (1.0, 0.55, 0.1),
    "yellow": (1.0, 0.95, 0.3),
    "red": (0.9, 0.1, 0.1),
    "green": (0.2, 0.9, 0.2),
}


@functools.cache
def _capital_px(font: int) -> float:
    """How high a capital letter is at scale 1, which OpenCV's versions differ in."""
    canvas = np.zeros((800, 800), np.uint8)
    cv2.putText(canvas, "H", (100, 700), font, 20, 255, 1)
    rows = np.flatnonzero(canvas.any(axis=1))
    return (int(rows[-1]) - int(rows[0]) + 1) / 20


def _a_date(random: np.random.Generator) -> str:
    """A date as cameras write it, sometimes with the time."""
    year, month, day, hour, minute, style = (int(random.integers(*span)) for span in _SPANS)
    styles = (
        f"'{year % 100:02d} {month:2d} {day:2d}",
        f"{day:02d}.{month:02d}.{year}",
        f"{year}-{month:02d}-{day:02d} {hour:02d}:{minute:02d}",
        f"{month}/{day}/{year % 100:02d}",
        f"{hour:02d}:{minute:02d}",
        f"IMG_{day:02d}{hour:02d}{minute:02d}",
    )
    return styles[style]


_SPANS = ((1985, 2026), (1, 13), (1, 29), (0, 24), (0, 60), (0, 6))


def _line(
    points_N2: np.ndarray, width_px: float, height: int, width: int, strength: float, colour: Colour
) -> Mark | None:
    """A line through points (column, row)."""
    thickness = max(1, round(width_px * _FINER))

    def draw(canvas: np.ndarray, points: np.ndarray) -> None:
        cv2.polylines(canvas, [points], False, 255, thickness, cv2.LINE_AA, _FRACTION)

    return _drawn(points_N2, draw, width_px, height, width, strength, colour)


def _area(points_N2: np.ndarray, height: int, width: int, strength: float, colour: Colour) -> Mark | None:
    """The inside of a polygon."""

    def draw(canvas: np.ndarray, points: np.ndarray) -> None:
        cv2.fillPoly(canvas, [points], 255, cv2.LINE_AA, _FRACTION)

    return _drawn(points_N2, draw, 1, height, width, strength, colour)


def _drawn(
    points_N2: np.ndarray,
    draw: Callable[[np.ndarray, np.ndarray], None],
    reach_px: float,
    height: int,
    width: int,
    strength: float,
    colour: Colour,
) -> Mark | None:
    """What is drawn around points, as far as it is inside the image."""
    low = np.maximum(np.floor(points_N2.min(axis=0) - reach_px - 1), 0).astype(int)
    high = np.minimum(np.ceil(points_N2.max(axis=0) + reach_px + 1), (width, height)).astype(int)
    if (high <= low).any():
        return None
    canvas = np.zeros(((high - low) * _FINER)[::-1], np.uint8)
    draw(canvas, np.round((points_N2 - low) * _FINER * 2**_FRACTION).astype(np.int32))
    return _seen(Mark(int(low[1]), int(low[0]), _reduced(canvas, strength), colour))


def _reduced(canvas: np.ndarray, strength: float) -> np.ndarray:
    """The cover of each pixel, from what was drawn finer."""
    size = (canvas.shape[1] // _FINER, canvas.shape[0] // _FINER)
    return cv2.resize(canvas, size, interpolation=cv2.INTER_AREA).astype(np.float32) * np.float32(strength / 255)


def _softened(mark: Mark | None, sigma_px: float, height: int, width: int) -> Mark | None:
    """The mark out of focus."""
    if mark is None or sigma_px <= 0:
        return mark
    reach = math.ceil(3 * sigma_px)
    cover = cv2.GaussianBlur(np.pad(mark.cover, reach), (2 * reach + 1,) * 2, sigma_px)
    return _cut(mark.top - reach, mark.left - reach, cover, height, width, mark.colour)


def _cut(top: int, left: int, cover: np.ndarray, height: int, width: int, colour: Colour) -> Mark | None:
    """The part of a mark that is inside the image."""
    inside = cover[max(-top, 0) : max(height - top, 0), max(-left, 0) : max(width - left, 0)]
    return _seen(Mark(max(top, 0), max(left, 0), np.ascontiguousarray(inside), colour))


def _seen(mark: Mark) -> Mark | None:
    """The mark, if it covers anything."""
    return mark if mark.cover.size and mark.cover.max() > 0 else None


def _rotation(angle: float) -> np.ndarray:
    return np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
