"""The curves of a run as one self-contained page: losses, learning rate, speed and validation metrics."""

from __future__ import annotations

import math
from html import escape
from pathlib import Path

from restore.files import atomic_write
from restore.training.history import HISTORY, read_history

__all__ = ["plot_history"]

_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 560, 220, 72, 24
_TICKS = 5  # about as many
_MARKED = 40  # points that are few enough to be seen one by one
_TITLES = {
    "lr": "learning rate",
    "it_per_s": "iterations per second",
    "data_wait": "share of the time spent waiting for data",
    "memory_mib": "memory in MiB",
}
_PAGE = """<!doctype html><meta charset="utf-8"><title>{title}</title>
<style>
 body {{ font: 14px system-ui, sans-serif; margin: 24px; background: Canvas; color: CanvasText }}
 :root {{ color-scheme: light dark }}
 main {{ display: flex; flex-wrap: wrap; gap: 24px }} figure {{ margin: 0 }} figcaption {{ font-weight: 600 }}
 text {{ font-size: 11px; fill: GrayText }} line {{ stroke: GrayText; opacity: .3 }}
 polyline {{ fill: none; stroke: #2a78d6; stroke-width: 1.5 }} circle {{ fill: #2a78d6 }}
 small {{ font-weight: 400; color: GrayText }}
</style>
<h1>{title}</h1><main>{figures}</main>
"""


def plot_history(folder: Path) -> Path | None:
    """Draw the history in a run's folder as `curves.html`; returns its path, or None where there is no history."""
    path = folder / HISTORY
    if not path.is_file():
        return None
    curves: dict[str, list[tuple[int, float]]] = {}
    for iteration, row in read_history(path).items():
        for name, value in row.items():
            curves.setdefault(name, []).append((iteration, value))
    iterations = [iteration for points in curves.values() for iteration, _ in points]
    span = min(iterations, default=0), max(iterations, default=1)
    figures = "".join(_figure(name, points, span) for name, points in sorted(curves.items(), key=_rank))
    target = folder / "curves.html"
    with atomic_write(target) as file:
        file.write(_PAGE.format(title=escape(folder.name), figures=figures).encode())
    return target


def _rank(curve: tuple[str, list]) -> tuple[int, str]:
    """Validation metrics first, then losses, then the rest."""
    name = curve[0]
    return (0 if name.startswith("metrics/") else 1 if name.startswith("l_") else 2, name)


def _figure(name: str, points: list[tuple[int, float]], span: tuple[int, int]) -> str:
    """One curve.

    Args:
        name: of the scalar.
        points: iterations and values.
        span: the iterations of the whole run, which all curves share.
    """
    ys = [y for _, y in points]
    heights = _ticks(min(ys), max(ys))
    widths = _ticks(span[0], max(span[1], span[0] + 1), least_step=1)
    (first, *_, last), (low, *_, high) = widths, heights

    def across(x: float) -> float:
        return _LEFT + (x - first) / (last - first) * (_WIDTH - _LEFT - 24)

    def down(y: float) -> float:
        return 8 + (high - y) / (high - low) * (_HEIGHT - _BOTTOM - 16)

    grid = ""
    for y in heights:
        grid += f'<line x1="{_LEFT}" x2="{_WIDTH - 24}" y1="{down(y):.1f}" y2="{down(y):.1f}"/>'
        grid += f'<text x="{_LEFT - 6}" y="{down(y) + 4:.1f}" text-anchor="end">{_label(y, heights)}</text>'
    for x in widths:
        grid += f'<text x="{across(x):.1f}" y="{_HEIGHT - 4}" text-anchor="middle">{_label(x, widths)}</text>'
    places = [(across(x), down(y)) for x, y in points]
    drawn = f'<polyline points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in places)}"/>'
    if len(places) <= _MARKED:
        drawn += "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5"/>' for x, y in places)
    title = escape(_TITLES.get(name, name.removeprefix("metrics/")))
    return (
        f"<figure><figcaption>{title} <small>by iteration; last {ys[-1]:.5g}</small></figcaption>"
        f'<svg width="{_WIDTH}" height="{_HEIGHT}" role="img">{grid}{drawn}</svg></figure>'
    )


def _ticks(low: float, high: float, least_step: float = 0.0) -> list[float]:
    """Round numbers, evenly spaced, from `low` or just below to `high` or just above; at least two."""
    if not high - low > 1e-9 * max(abs(low), abs(high)):  # a constant
        margin = abs(low) / 100 or 1.0
        low, high = low - margin, high + margin
    rough = (high - low) / (_TICKS - 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = max(least_step, next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999))
    return [step * number for number in range(math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9) + 1)]


def _label(value: float, ticks: list[float]) -> str:
    """A tick as text, with the digits that tell it from its neighbours."""
    step, largest = ticks[1] - ticks[0], max(map(abs, ticks))
    if largest < 1e-4:
        return f"{value:.{max(0, math.ceil(math.log10(largest / step)))}e}" if value else "0"
    return f"{value:,.{max(0, math.ceil(-math.log10(step) - 1e-9))}f}"
