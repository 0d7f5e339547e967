"""How the values of a metric are spread: a histogram with every image as a dot below it, as geometry for an SVG."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from restore.evaluation.records import MetricRecord
from restore.evaluation.scoring.results import ImageScore
from restore.reports.format import counted_images, figure

__all__ = ["Distribution", "distribution"]

WIDTH, BASE, TOP, MARGIN = 560.0, 118.0, 14.0, 18.0
DOT, ROW, MAX_ROWS = 3.4, 7.6, 5
MOST_BINS = 24
FEWEST_FOR_BINS = 8


@dataclass(frozen=True)
class Bar:
    """A bin of the histogram: its place and what it says."""

    x: float
    y: float
    width: float
    height: float
    text: str


@dataclass(frozen=True)
class Mark:
    """A place on the axis with its text."""

    x: float
    text: str


@dataclass(frozen=True)
class Dot:
    """One image."""

    x: float
    y: float
    name: str
    text: str


@dataclass(frozen=True)
class Distribution:
    """Everything that is drawn, in the units of a view box of `width` x `height`.

    Attributes:
        bars: the histogram; empty for a handful of images.
        dots: every image, at its value; those of nearly the same value below each other.
        ticks: round values on the axis.
        mean: the mean of what is drawn.
        num_infinite: identical pairs, for which there is no place on an axis.
    """

    width: float
    height: float
    base: float
    bars: list[Bar]
    dots: list[Dot]
    ticks: list[Mark]
    mean: Mark
    num_infinite: int


def distribution(images: Sequence[ImageScore], label: str, metric: MetricRecord) -> Distribution | None:
    """The spread of a metric over images; None where not one value is finite."""
    values = {image.name: image.values[label] for image in images if math.isfinite(image.values.get(label, math.nan))}
    if not values:
        return None
    step = _round_step(min(values.values()), max(values.values()))
    low = math.floor(min(values.values()) / step) * step
    high = max(math.ceil(max(values.values()) / step) * step, low + step)
    axis = _Axis(low, high)
    bars = _bars(list(values.values()), axis, metric) if len(values) >= FEWEST_FOR_BINS else []
    base = BASE if bars else TOP + 16
    dots = _dots(values, axis, metric, base + 10)
    mean = statistics.fmean(values.values())
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    ticks = [
        Mark(axis(low + i * step), f"{low + i * step:.{decimals}f}") for i in range(round((high - low) / step) + 1)
    ]
    bottom = max(dot.y for dot in dots) + 26
    return Distribution(
        width=WIDTH,
        height=bottom,
        base=base,
        bars=bars,
        dots=dots,
        ticks=ticks,
        mean=Mark(axis(mean), figure(mean, metric)),
        num_infinite=sum(math.isinf(image.values.get(label, 0.0)) for image in images),
    )


@dataclass(frozen=True)
class _Axis:
    low: float
    high: float

    def __call__(self, value: float) -> float:
        return round(MARGIN + (value - self.low) / (self.high - self.low) * (WIDTH - 2 * MARGIN), 2)


def _round_step(low: float, high: float) -> float:
    """1, 2 or 5 times a power of ten, such that about six of them cover the range."""
    rough = (high - low) / 6 or abs(high) / 10 or 1.0
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)


def _bars(values: list[float], axis: _Axis, metric: MetricRecord) -> list[Bar]:
    count = min(MOST_BINS, max(6, math.ceil(2 * len(values) ** (1 / 3)) * 2))
    width = (axis.high - axis.low) / count
    counts = Counter(min(int((value - axis.low) / width), count - 1) for value in values)
    tallest = max(counts.values())
    bars = []
    for index, number in sorted(counts.items()):
        left, right = axis.low + index * width, axis.low + (index + 1) * width
        height = round((BASE - TOP) * number / tallest, 2)
        text = f"{figure(left, metric)} to {figure(right, metric)}: {counted_images(number)}"
        bars.append(Bar(axis(left) + 0.75, BASE - height, round(axis(right) - axis(left) - 1.5, 2), height, text))
    return bars


def _dots(values: dict[str, float], axis: _Axis, metric: MetricRecord, top: float) -> list[Dot]:
    """Each in the first row where it does not lie on another; the last row takes what is left."""
    ends = [-math.inf] * MAX_ROWS
    dots = []
    for name, value in sorted(values.items(), key=lambda item: item[1]):
        x = axis(value)
        row = next((row for row, end in enumerate(ends) if x - end >= 2 * DOT), MAX_ROWS - 1)
        ends[row] = x
        dots.append(Dot(x, round(top + row * ROW, 2), name, figure(value, metric)))
    return dots
