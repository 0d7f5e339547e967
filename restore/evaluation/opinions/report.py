"""The report of a quality model: one page with a scatter plot for each dataset and the tables of agreement.

The plots are SVG written here: no library, and sharp at every size. Points are images, the line is the logistic
function of five parameters (or of four, where that cannot be fitted) that maps scores to opinions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from restore.errors import DataError
from restore.inference.judging import Judgement
from restore.metrics.correlation import fit_logistic
from restore.reports.format import counted_images

__all__ = ["render", "scatter"]

_SIDE, _MARGIN = 420, 48
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1d2330; }
h1 { margin-bottom: 0; } .facts { color: #5b6475; margin-top: 0.2rem; }
section { display: flex; flex-wrap: wrap; gap: 2rem; align-items: flex-start; }
h2 { flex-basis: 100%; margin: 1rem 0 0; }
svg { max-width: 100%; height: auto; } svg text { font: 12px system-ui, sans-serif; fill: #5b6475; }
table { border-collapse: collapse; }
th, td { padding: 0.25rem 0.7rem; text-align: right; border-bottom: 1px solid #d9dee8; }
th:first-child { text-align: left; } td { font-variant-numeric: tabular-nums; }
"""
_NAMES = {
    "none": "raw",
    "logistic4": "logistic, 4 parameters",
    "logistic5": "logistic, 5 parameters",
    "median_over_splits": "median over splits, raw",
}


def render(results: Mapping[str, Any], judged: Mapping[str, Sequence[Judgement]]) -> str:
    """The page as text.

    Args:
        results: what `evaluate_quality` found.
        judged: every score and opinion, by dataset.
    """
    sections = [
        f"<section><h2>{escape(name)}: {counted_images(found['num_images'])}</h2>"
        f"{scatter([one.score for one in judged[name]], [one.opinion for one in judged[name]])}"
        f"{_figures(found)}</section>"
        for name, found in results["datasets"].items()
    ]
    title = escape(results["name"])
    facts = f"{results['network']}, {results['parameters']:,} parameters"
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title} · quality report</title>'
        f"<style>{_STYLE}</style><h1>{title}</h1>"
        f'<p class="facts">{facts}. Scores are on the scale of opinions: 0 is worst, 1 is best. '
        f"Brackets hold 95 % intervals of the raw figures over resampled images.</p>{''.join(sections)}</html>\n"
    )


def scatter(scores: Sequence[float], opinions: Sequence[float]) -> str:
    """An SVG of opinions over scores with the fitted curve."""
    x, y = np.asarray(scores, float), np.asarray(opinions, float)
    across, up = _Axis(x), _Axis(y)
    points = "".join(
        f'<circle cx="{_MARGIN + across(a):.1f}" cy="{_SIDE - _MARGIN - up(b):.1f}" r="2.5"/>'
        for a, b in zip(x, y, strict=True)
    )
    end = _SIDE - _MARGIN
    labels = "".join(
        f'<text x="{_MARGIN + across(tick):.1f}" y="{end + 18}" text-anchor="middle">{tick:g}</text>'
        for tick in across.ticks
    ) + "".join(
        f'<text x="{_MARGIN - 8}" y="{end - up(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>' for tick in up.ticks
    )
    return (
        f'<svg viewBox="0 0 {_SIDE} {_SIDE}" width="{_SIDE}" role="img" aria-label="opinions over scores">'
        f'<path d="M{_MARGIN} {_MARGIN}V{end}H{end}" fill="none" stroke="#5b6475"/>{labels}'
        f'<text x="{_SIDE / 2}" y="{_SIDE - 8}" text-anchor="middle">score</text>'
        f'<text transform="translate(14 {_SIDE / 2}) rotate(-90)" text-anchor="middle">opinion</text>'
        f'<g fill="#2f6fde" fill-opacity="0.35">{points}</g>{_curve(x, y, across, up)}</svg>'
    )


class _Axis:
    """From values to pixels along an axis, with ticks at round values."""

    def __init__(self, values: np.ndarray):
        low, high = float(values.min()), float(values.max())
        room = 0.04 * (high - low) or 0.5
        self.low, self.high = low - room, high + room
        step = 10.0 ** np.floor(np.log10((self.high - self.low) / 2))
        step = next(step * factor for factor in (1, 2, 5, 10) if (self.high - self.low) / (step * factor) <= 7)
        first = np.ceil(self.low / step)
        self.ticks = [round(tick * step, 10) + 0.0 for tick in np.arange(first, np.floor(self.high / step) + 1)]

    def __call__(self, value: float) -> float:
        return (value - self.low) / (self.high - self.low) * (_SIDE - 2 * _MARGIN)


def _curve(x: np.ndarray, y: np.ndarray, across: _Axis, up: _Axis) -> str:
    for fit in ("logistic5", "logistic4"):
        try:
            curve = fit_logistic(x, y, fit=fit)
        except DataError:
            continue
        places = np.linspace(x.min(), x.max(), 60)
        line = " ".join(
            f"{_MARGIN + across(a):.1f},{_SIDE - _MARGIN - up(np.clip(b, up.low, up.high)):.1f}"
            for a, b in zip(places, curve(places), strict=True)
        )
        return f'<polyline points="{line}" fill="none" stroke="#c2410c" stroke-width="2"/>'
    return ""


def _figures(found: Mapping[str, Any]) -> str:
    columns = ("srcc", "plcc", "krcc", "rmse")
    header = "".join(f"<th>{name.upper()}</th>" for name in columns)
    lines = []
    for key, name in _NAMES.items():
        if found.get(key):
            cells = "".join(f"<td>{found[key][column]:.4f}</td>" for column in columns)
            lines.append(f"<tr><th>{name}</th>{cells}</tr>")
    bounds = "".join("<td>[{:.3f}, {:.3f}]</td>".format(*found["intervals"][column]) for column in columns)
    return f"<table><tr><th></th>{header}</tr>{''.join(lines)}<tr><th>95 % interval, raw</th>{bounds}</tr></table>"
