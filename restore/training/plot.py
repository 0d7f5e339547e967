"""The curves of a run as one self-contained page: losses, learning rate, speed and validation metrics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from restore.files import atomic_write
from restore.reports import charts
from restore.reports.pages import fill_page
from restore.training.history import HISTORY, read_history

__all__ = ["plot_history"]

Points = list[tuple[int, float]]
_TITLES = {
    "lr": "learning rate",
    "it_per_s": "iterations per second",
    "data_wait": "share of the time spent waiting for data",
    "memory_mib": "memory in MiB",
}


def plot_history(folder: Path) -> Path | None:
    """Draw the history in a run's folder as `curves.html`; returns its path, or None where there is no history."""
    path = folder / HISTORY
    if not path.is_file():
        return None
    curves: dict[str, Points] = {}
    for iteration, row in read_history(path).items():
        for name, value in row.items():
            curves.setdefault(name, []).append((iteration, value))
    iterations = [iteration for points in curves.values() for iteration, _ in points]
    span = min(iterations, default=0), max(iterations, default=1)
    sections: dict[str, list[dict[str, Any]]] = {"Validation": [], "Losses": [], "Training": []}
    for name, points in sorted(curves.items()):
        sections[_section(name)].append(_drawn(name, points, span))
    page = fill_page(
        "restore.training",
        "curves.html",
        title=folder.resolve().name,
        facts=[f"iterations {span[0]:,} to {span[1]:,}"],
        sections={heading: drawn for heading, drawn in sections.items() if drawn},
        num_thinned=sum(len(points) > charts.MOST_POINTS for points in curves.values()),
        most_points=charts.MOST_POINTS,
    )
    target = folder / "curves.html"
    with atomic_write(target) as file:
        file.write(page.encode())
    return target


def _section(name: str) -> str:
    return "Validation" if name.startswith("metrics/") else "Losses" if name.startswith("l_") else "Training"


def _drawn(name: str, points: Points, span: tuple[int, int]) -> dict[str, Any]:
    """One curve over the iterations of the whole run, which all curves share."""
    title = _TITLES.get(name, name.removeprefix("metrics/"))
    return {
        "title": title,
        "last": f"{points[-1][1]:.5g}",
        "chart": charts.curve(points, ("iteration", title), x_range=span),
    }
