"""Axes: round ticks, how they are written, and where on an axis a value lies. Every chart follows this one rule."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

__all__ = ["Scale", "linear_scale", "log_scale", "round_ticks", "tick_texts"]

FACTORS = (1, 2, 5, 10)
MOST_STEPS = 6  # from tick to tick, within the range of the values
SMALLEST_PLAIN = 1e-4  # axes that end below it are written with exponents
MOST_DECADES = 4  # a logarithmic axis over more of them has ticks at powers of ten alone


@dataclass(frozen=True)
class Scale:
    """From values to pixels along an axis.

    Attributes:
        low: value at the pixel `begin`.
        high: value at the pixel `end`.
        ticks: round values, ascending.
        is_log: whether equal factors, not equal steps, are equally far apart.
        begin: where the axis begins, in pixels.
        end: where it ends.
    """

    low: float
    high: float
    ticks: tuple[float, ...]
    is_log: bool = False
    begin: float = 0.0
    end: float = 1.0

    def __call__(self, value: float) -> float:
        """The pixel of a value."""
        low, high, value = (math.log10(x) if self.is_log else x for x in (self.low, self.high, value))
        return self.begin + (value - low) / (high - low) * (self.end - self.begin)

    def marks(self) -> list[tuple[float, str]]:
        """Pixel and text of every tick."""
        plain = [f"{tick:,.0f}" if tick >= 1000 else f"{tick:g}" for tick in self.ticks]
        return list(zip(map(self, self.ticks), plain if self.is_log else tick_texts(self.ticks), strict=True))

    def between(self, begin: float, end: float) -> Scale:
        """The same axis on another stretch of pixels."""
        return replace(self, begin=begin, end=end)


def linear_scale(
    values: Iterable[float], *, room: float = 0.0, least_step: float = 0.0, is_tight: bool = False
) -> Scale:
    """An axis that holds all values.

    Args:
        values: finite, at least one.
        room: share of their range that is left free beside the outermost.
        least_step: between two ticks.
        is_tight: the axis ends at the values, not at the ticks around them.
    """
    low, high = _range(values)
    low, high = low - room * (high - low), high + room * (high - low)
    ticks = round_ticks(low, high, least_step=least_step)
    if is_tight and low < high:
        inside = tuple(tick for tick in ticks if low <= tick <= high)
        if len(inside) > 1:
            return Scale(low, high, inside)
    return Scale(ticks[0], ticks[-1], tuple(ticks))


def log_scale(values: Iterable[float], *, room: float = 1.15) -> Scale:
    """A logarithmic axis that holds all values, which are above 0, with a factor of `room` beside the outermost."""
    low, high = _range(values)
    low, high = low / room, high * room
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    factors = FACTORS[:3] if len(powers) <= MOST_DECADES else (1,)
    ticks = [factor * 10.0**power for power in powers for factor in factors]
    first = max(number for number, tick in enumerate(ticks) if tick <= low or number == 0)
    last = next((number for number, tick in enumerate(ticks) if tick >= high), len(ticks) - 1)
    ticks = ticks[first : max(last, first + 1) + 1]
    return Scale(ticks[0], ticks[-1], tuple(ticks), is_log=True)


def round_ticks(low: float, high: float, *, least_step: float = 0.0) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten, from `low` or just below to `high` or just above; at least two.

    The step is the smallest of which no more than `MOST_STEPS` lie between `low` and `high`.
    """
    if not high - low > 1e-9 * max(abs(low), abs(high)):  # a constant
        margin = abs(low) / 100 or 1.0
        low, high = low - margin, high + margin
    rough = (high - low) / MOST_STEPS
    power = 10.0 ** math.floor(math.log10(rough))
    step = max(least_step, next(factor * power for factor in FACTORS if factor * power >= rough * 0.999))
    return [step * number for number in range(math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9) + 1)]


def tick_texts(ticks: Sequence[float]) -> list[str]:
    """Evenly spaced ticks as text, with the digits that tell each from its neighbours."""
    step, largest = ticks[1] - ticks[0], max(map(abs, ticks))
    if largest < SMALLEST_PLAIN:
        digits = max(0, math.ceil(math.log10(largest / step)))
        return [f"{tick:.{digits}e}" if tick else "0" for tick in ticks]
    digits = max(0, math.ceil(-math.log10(step) - 1e-9))
    return [f"{tick + 0.0:,.{digits}f}" for tick in ticks]


def _range(values: Iterable[float]) -> tuple[float, float]:
    values = list(values)
    return min(values), max(values)
