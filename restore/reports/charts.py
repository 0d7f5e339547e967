"""Charts as inline SVG: curves, scatter plots and distributions, in the colours of the page's style sheet.

A mark says what it is when the pointer is near it (`page.js` reads the `<title>` of a dot or a column, and the values
of a line); without scripts a browser shows the titles itself. Sizes are in the units of the view box: a chart is as
wide as the place that it is put in.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from restore.reports.format import counted_images
from restore.reports.scales import Scale, linear_scale, log_scale

__all__ = ["MOST_POINTS", "Dot", "curve", "distribution", "scatter"]

WIDTH, TOP, RIGHT, BOTTOM = 560, 12, 20, 28
LABEL = 26  # what the label of an axis takes
LINE, CHARACTER = 17, 8.6  # height of a line of text, width of a letter; of the large type on narrow screens
MARKED = 40  # points that are few enough to be seen one by one
MOST_POINTS = 1000  # of a line
BASE, ROW, MAX_ROWS, RADIUS = 118.0, 7.6, 5, 3.2  # of a distribution
MOST_BINS, FEWEST_FOR_BINS = 24, 8

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Dot:
    """A dot of a scatter plot.

    Attributes:
        x: value across.
        y: value up.
        text: what it says when the pointer is near.
        name: stands beside the dot where there is room.
        kind: how it is drawn: "own" filled, "other" as a ring, "many" small and half transparent.
    """

    x: float
    y: float
    text: str = ""
    name: str = ""
    kind: str = "own"


def curve(points: Points, names: tuple[str, str], *, x_range: tuple[float, float] | None = None) -> str:
    """A line through points in the order of x.

    Args:
        points: (x, y). Of more than `MOST_POINTS` the lowest and the highest of every few are drawn. Where y is not
            finite, the line goes on from the next point.
        names: of x and y, for the pointer.
        x_range: what the axis holds besides the points, such as the range of other curves.
    """
    finite = [(x, y) for x, y in points if math.isfinite(y)]
    x = linear_scale([*(x for x, _ in points), *(x_range or ())], least_step=1, is_tight=True)
    frame = _Frame(x, linear_scale([y for _, y in finite] or [0]), height=220)
    drawn = _thinned(finite)
    places = [frame.place(*point) for point in drawn]
    values = " ".join(f"{x:g},{y:.6g}" for x, y in drawn)
    data = {"data_values": values, "data_names": "|".join(names)}
    parts = [_element("polyline", class_="line", points=_joined(places), **data)]
    if len(drawn) <= MARKED:
        parts += [_element("circle", class_="dot", cx=x, cy=y, r=2.6) for x, y in places]
    return frame.svg(parts, f"{names[1]} by {names[0]}")


def scatter(
    dots: Sequence[Dot], x_label: str, y_label: str, *, x_is_log: bool = False, line: Points = (), height: int = 360
) -> str:
    """Dots with their names beside them, and perhaps a line; empty where not one dot can be drawn.

    Args:
        dots: those with a value that is not finite, or not above 0 on a logarithmic axis, are left out.
        x_label: below the axis.
        y_label: beside the axis.
        x_is_log: whether the axis of x is logarithmic.
        line: points of a line over the dots; what lies outside the chart is drawn on its edge.
        height: of the view box.
    """
    finite = (dot for dot in dots if math.isfinite(dot.x) and math.isfinite(dot.y))
    shown = [dot for dot in finite if dot.x > 0 or not x_is_log]
    if not shown:
        return ""
    xs = [dot.x for dot in shown]
    x = log_scale(xs) if x_is_log else linear_scale(xs, room=0.03, is_tight=True)
    y = linear_scale([dot.y for dot in shown], room=0.08 if any(dot.name for dot in shown) else 0.03, is_tight=True)
    frame = _Frame(x, y, x_label=x_label, y_label=y_label, height=height, is_crossed=True)
    places = [frame.place(dot.x, dot.y) for dot in shown]
    parts = [_dot(dot, place) for dot, place in zip(shown, places, strict=True)]
    if line:
        inside = [frame.place(x, min(max(y, frame.y.low), frame.y.high)) for x, y in line]
        parts.append(_element("polyline", class_="fit", points=_joined(inside)))
    return frame.svg([*parts, *_names(shown, places, frame)], f"{y_label} against {x_label}")


def distribution(
    values: Mapping[str, float], label: str, text: Callable[[float], str], links: Mapping[str, str] | None = None
) -> str:
    """How values are spread: a histogram, and below it every value as a dot; dots that would overlap stand in rows.

    Args:
        values: of images, by name; finite, at least one.
        label: of what, for readers of the page who do not see it.
        text: how a value is written.
        links: where a dot leads, by name.
    """
    x = linear_scale(values.values()).between(RIGHT, WIDTH - RIGHT)
    bars = _bars(list(values.values()), x, text) if len(values) >= FEWEST_FOR_BINS else []
    base = BASE if bars else TOP + 18.0
    places = _in_rows(values, x, base + 11)
    height = max(place[1] for place in places.values()) + 28
    mean = statistics.fmean(values.values())
    anchor = "start" if x(mean) < 60 else "end" if x(mean) > WIDTH - 60 else "middle"
    parts = [
        *bars,
        _element("line", class_="axis", x1=0, x2=WIDTH, y1=base, y2=base),
        _element("line", class_="mean", x1=x(mean), x2=x(mean), y1=14, y2=base),
        _text(x(mean), 10, f"mean {text(mean)}", anchor, "named"),
    ]
    for name, (dot_x, dot_y) in places.items():
        title = _element("title", escape(f"{name}: {text(values[name])}"))
        dot = _element("circle", title, class_="dot", cx=dot_x, cy=dot_y, r=RADIUS)
        parts.append(_element("a", dot, href=links[name]) if links else dot)
    parts += [_text(px, height - 4, words, "middle") for px, words in x.marks()]
    return _svg(parts, f"Distribution of {label} over {counted_images(len(values))}, mean {text(mean)}", height)


class _Frame:
    """The axes of a chart with their grid, and the place of a pair of values."""

    def __init__(
        self, x: Scale, y: Scale, *, height: int, x_label: str = "", y_label: str = "", is_crossed: bool = False
    ):
        self._height, self._x_label, self._y_label, self._is_crossed = height, x_label, y_label, is_crossed
        longest = max(len(words) for _, words in y.marks())
        self.left = 14 + CHARACTER * longest + (LABEL if y_label else 0)
        self.bottom = height - BOTTOM - (LABEL if x_label else 0)
        self.x, self.y = x.between(self.left, WIDTH - RIGHT), y.between(self.bottom, TOP)

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Where a pair of values lies."""
        return self.x(x), self.y(y)

    def svg(self, parts: Sequence[str], about: str) -> str:
        """The chart with `parts` over its grid."""
        drawn = []
        for px, words in self.y.marks():
            drawn.append(_element("line", class_="grid", x1=self.left, x2=WIDTH - RIGHT, y1=px, y2=px))
            drawn.append(_text(self.left - 8, px + 4, words, "end"))
        for px, words in self.x.marks():
            if self._is_crossed:
                drawn.append(_element("line", class_="grid", x1=px, x2=px, y1=TOP, y2=self.bottom))
            drawn.append(_text(px, self.bottom + 19, words, "middle"))
        if self._x_label:
            middle = (self.left + WIDTH - RIGHT) / 2
            drawn.append(_text(middle, self._height - 8, self._x_label, "middle", "label"))
        if self._y_label:
            turned = f"translate(14 {(self.bottom + TOP) / 2:.1f}) rotate(-90)"
            drawn.append(_text(0, 0, self._y_label, "middle", "label", transform=turned))
        return _svg([*drawn, *parts], about, self._height)


def _svg(parts: Sequence[str], about: str, height: float) -> str:
    box = f"0 0 {WIDTH} {height:g}"
    return _element("svg", "".join(parts), class_="chart", viewBox=box, role="img", aria_label=about)


def _text(x: float, y: float, words: str, anchor: str, kind: str = "tick", **more: str) -> str:
    return _element("text", escape(words), class_=kind, x=x, y=y, text_anchor=anchor, **more)


def _element(tag: str, inside: str = "", **attributes: str | float) -> str:
    """An element around markup; `text_anchor` is the attribute `text-anchor`, `class_` the attribute `class`."""
    written = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{escape(value) if isinstance(value, str) else f"{value:.1f}"}"'
        for name, value in attributes.items()
    )
    return f"<{tag}{written}>{inside}</{tag}>"


def _joined(places: Points) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in places)


def _thinned(points: Points) -> Points:
    """The lowest and the highest of every few points, in order, and the first and the last."""
    if len(points) <= MOST_POINTS:
        return points
    step = math.ceil(len(points) / (MOST_POINTS / 2 - 1))
    kept = {0, len(points) - 1}
    for start in range(0, len(points), step):
        few = range(start, min(start + step, len(points)))
        kept |= {min(few, key=lambda number: points[number][1]), max(few, key=lambda number: points[number][1])}
    return [points[number] for number in sorted(kept)]


def _dot(dot: Dot, place: tuple[float, float]) -> str:
    title = _element("title", escape(dot.text)) if dot.text else ""
    radius = 3 if dot.kind == "many" else 5.5
    return _element("circle", title, class_=f"dot {dot.kind}", cx=place[0], cy=place[1], r=radius)


def _names(dots: Sequence[Dot], places: Points, frame: _Frame) -> list[str]:
    """The names beside their dots, each on a side with room; a name that would cover another is left out."""
    if not any(dot.name for dot in dots):
        return []
    taken = [(x - 7, y - 7, x + 7, y + 7) for x, y in places]
    drawn = []
    for dot, (x, y) in zip(dots, places, strict=True):
        width = CHARACTER * len(dot.name)
        options = [
            (x + 10, y + 4, "start", x + 10),
            (x - 10, y + 4, "end", x - 10 - width),
            (x, y - 11, "middle", x - width / 2),
            (x, y + 19, "middle", x - width / 2),
        ]
        for text_x, text_y, anchor, left in options:
            box = (left, text_y - LINE + 3, left + width, text_y + 3)
            inside = box[0] >= frame.left and box[2] <= WIDTH - 2 and box[1] >= 0 and box[3] <= frame.bottom
            if inside and not any(_overlap(box, other) for other in taken):
                taken.append(box)
                drawn.append(_text(text_x, text_y, dot.name, anchor, "named"))
                break
    return drawn


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _bars(values: Sequence[float], x: Scale, text: Callable[[float], str]) -> list[str]:
    low, high = x.low, x.high
    count = min(MOST_BINS, max(6, math.ceil(2 * len(values) ** (1 / 3)) * 2))
    step = (high - low) / count
    counts = Counter(min(int((value - low) / step), count - 1) for value in values)
    tallest = max(counts.values())
    bars = []
    for index, number in sorted(counts.items()):
        left, right = low + index * step, low + (index + 1) * step
        height = (BASE - TOP - 4) * number / tallest
        title = f"{text(left)} to {text(right)}: {counted_images(number)}"
        bar = {"x": x(left) + 0.75, "y": BASE - height, "width": x(right) - x(left) - 1.5, "height": height}
        bars.append(_element("rect", _element("title", escape(title)), class_="column", rx=2, **bar))
    return bars


def _in_rows(values: Mapping[str, float], x: Scale, top: float) -> dict[str, tuple[float, float]]:
    """Each in the first row where it does not lie on another; the last row takes what is left."""
    ends = [-math.inf] * MAX_ROWS
    places = {}
    for name, value in sorted(values.items(), key=lambda item: item[1]):
        px = x(value)
        row = next((row for row, end in enumerate(ends) if px - end >= 2 * RADIUS + 0.4), MAX_ROWS - 1)
        ends[row] = px
        places[name] = px, top + row * ROW
    return places
