"""Scatter plots as inline SVG: one dot for each model, its name beside it, colours from the page's style sheet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

__all__ = ["Point", "scatter"]

WIDTH, HEIGHT = 620, 380
LEFT, RIGHT, TOP, BOTTOM = 62, 24, 20, 52
LINE_PX = 15
CHARACTER_PX = 6.6


@dataclass(frozen=True)
class Point:
    """A dot.

    Attributes:
        x: above 0; the axis is logarithmic.
        y: on a linear axis.
        name: beside the dot.
        own: one's own run, which is drawn filled; others are drawn as rings.
        text: what a browser shows on hovering.
    """

    x: float
    y: float
    name: str
    own: bool = True
    text: str = ""


def scatter(points: Sequence[Point], x_label: str, y_label: str) -> str:
    """An SVG of the points; an empty string for less than one that can be drawn."""
    drawn = [point for point in points if point.x > 0 and math.isfinite(point.x) and math.isfinite(point.y)]
    if not drawn:
        return ""
    x_ticks, y_ticks = _log_ticks([point.x for point in drawn]), _linear_ticks([point.y for point in drawn])
    low, high = math.log10(x_ticks[0]), math.log10(x_ticks[-1])

    def across(value: float) -> float:
        return LEFT + (math.log10(value) - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    def down(value: float) -> float:
        return HEIGHT - BOTTOM - (value - y_ticks[0]) / (y_ticks[-1] - y_ticks[0]) * (HEIGHT - TOP - BOTTOM)

    parts = [
        f'<svg class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(y_label)} against {escape(x_label)}">'
    ]
    for tick in y_ticks:
        y = down(tick)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 9}" y="{y + 4:.1f}" text-anchor="end">{_short(tick)}</text>')
    for tick in x_ticks:
        x = across(tick)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
        y = HEIGHT - BOTTOM + 19
        parts.append(f'<text class="tick" x="{x:.1f}" y="{y}" text-anchor="middle">{_short(tick)}</text>')
    middle = LEFT + (WIDTH - LEFT - RIGHT) / 2
    parts.append(f'<text class="axis" x="{middle}" y="{HEIGHT - 10}" text-anchor="middle">{escape(x_label)}</text>')
    parts.append(f'<text class="axis" transform="translate(16 {(HEIGHT - BOTTOM + TOP) / 2}) rotate(-90)" ')
    parts[-1] += f'text-anchor="middle">{escape(y_label)}</text>'
    places = [(across(point.x), down(point.y)) for point in drawn]
    for point, place, label in zip(drawn, places, _labels(drawn, places), strict=True):
        parts.append(_dot(point, place, label))
    return "".join([*parts, "</svg>"])


def _dot(point: Point, place: tuple[float, float], label: tuple[float, float, str] | None) -> str:
    title = f"<title>{escape(point.text or point.name)}</title>"
    kind = "own" if point.own else "other"
    dot = f'<circle class="dot {kind}" cx="{place[0]:.1f}" cy="{place[1]:.1f}" r="5.5">{title}</circle>'
    if label is None:
        return dot
    x, y, anchor = label
    return f'{dot}<text class="name {kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(point.name)}</text>'


def _labels(points: Sequence[Point], places: Sequence[tuple[float, float]]) -> list[tuple[float, float, str] | None]:
    """Where the names stand: beside their dot, on the side with room; None for a name that would cover another."""
    taken = [(x - 7, y - 7, x + 7, y + 7) for x, y in places]
    found: list[tuple[float, float, str] | None] = []
    for point, (x, y) in zip(points, places, strict=True):
        width = CHARACTER_PX * len(point.name)
        options = [
            (x + 10, y + 4, "start", x + 10),
            (x - 10, y + 4, "end", x - 10 - width),
            (x, y - 11, "middle", x - width / 2),
            (x, y + 19, "middle", x - width / 2),
        ]
        chosen = None
        for label_x, label_y, anchor, left in options:
            box = (left, label_y - LINE_PX + 3, left + width, label_y + 3)
            inside = box[0] >= LEFT and box[2] <= WIDTH - 2 and box[1] >= 0 and box[3] <= HEIGHT - BOTTOM
            if inside and not any(_overlap(box, other) for other in taken):
                taken.append(box)
                chosen = label_x, label_y, anchor
                break
        found.append(chosen)
    return found


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _linear_ticks(values: Sequence[float]) -> list[float]:
    low, high = min(values), max(values)
    span = (high - low) or abs(high) * 0.02 or 1.0
    low, high = low - 0.12 * span, high + 0.12 * span
    raw = (high - low) / 5
    power = 10 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= raw)
    first = math.floor(low / step)
    return [step * number for number in range(first, math.ceil(high / step) + 1)]


def _log_ticks(values: Sequence[float]) -> list[float]:
    """Round numbers (1, 2, 5 and their multiples by ten) around the values, thinned where they are many."""
    low, high = min(values) / 1.15, max(values) * 1.15
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    factors = (1, 2, 5) if len(powers) <= 4 else (1,)
    ticks = [factor * 10.0**power for power in powers for factor in factors]
    first = max(number for number, tick in enumerate(ticks) if tick <= low or number == 0)
    last = next((number for number, tick in enumerate(ticks) if tick >= high), len(ticks) - 1)
    return ticks[first : last + 1]


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{round(value, 6):g}"
