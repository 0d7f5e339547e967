"""The curves of a run as one self-contained page: losses, learning rate, speed and validation metrics."""

from __future__ import annotations

import math
from html import escape
from pathlib import Path

from restore.files import atomic_write
from restore.training.history import HISTORY, read_history

__all__ = ["plot_history"]

_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 560, 220, 72, 24
_TICKS = 5
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
 polyline {{ fill: none; stroke: #2a78d6; stroke-width: 1.5 }} small {{ font-weight: 400; color: GrayText }}
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
    figures = "".join(_figure(name, points) for name, points in sorted(curves.items(), key=_rank))
    target = folder / "curves.html"
    with atomic_write(target) as file:
        file.write(_PAGE.format(title=escape(folder.name), figures=figures).encode())
    return target


def _rank(curve: tuple[str, list]) -> tuple[int, str]:
    """Validation metrics first, then losses, then the rest."""
    name = curve[0]
    return (0 if name.startswith("metrics/") else 1 if name.startswith("l_") else 2, name)


def _figure(name: str, points: list[tuple[int, float]]) -> str:
    xs, ys = zip(*points, strict=True)
    low, high = min(ys), max(ys)
    if low == high:
        low, high = low - (abs(low) or 1) / 2, high + (abs(high) or 1) / 2
    first, last = min(xs), max(max(xs), min(xs) + 1)

    def across(x: float) -> float:
        return _LEFT + (x - first) / (last - first) * (_WIDTH - _LEFT - 12)

    def down(y: float) -> float:
        return 8 + (high - y) / (high - low) * (_HEIGHT - _BOTTOM - 16)

    grid = ""
    parts = [step / (_TICKS - 1) for step in range(_TICKS)]
    digits = _digits(low, high)
    for y in (low + (high - low) * part for part in parts):
        grid += f'<line x1="{_LEFT}" x2="{_WIDTH - 12}" y1="{down(y):.1f}" y2="{down(y):.1f}"/>'
        grid += f'<text x="{_LEFT - 6}" y="{down(y) + 4:.1f}" text-anchor="end">{y:.{digits}g}</text>'
    for x in sorted({round(first + (last - first) * part) for part in parts}):
        grid += f'<text x="{across(x):.1f}" y="{_HEIGHT - 4}" text-anchor="middle">{x:,}</text>'
    line = " ".join(f"{across(x):.1f},{down(y):.1f}" for x, y in points)
    title = escape(_TITLES.get(name, name.removeprefix("metrics/")))
    return (
        f"<figure><figcaption>{title} <small>by iteration; last {ys[-1]:.5g}</small></figcaption>"
        f'<svg width="{_WIDTH}" height="{_HEIGHT}" role="img">{grid}<polyline points="{line}"/></svg></figure>'
    )


def _digits(low: float, high: float) -> int:
    """The significant digits that tell the values of neighbouring ticks apart."""
    step = (high - low) / (_TICKS - 1)
    return min(max(4, math.ceil(math.log10(max(abs(low), abs(high)) / step)) + 1), 9)
