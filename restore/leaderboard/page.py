"""The leaderboard as Markdown and as one HTML page that needs no network and no other file."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from restore.leaderboard.board import Ranked
from restore.leaderboard.formulas import esr_year
from restore.leaderboard.tracks import Track
from restore.metrics import protocol
from restore.reports.charts import Dot, scatter
from restore.reports.pages import fill_page
from restore.terminal import markdown_cell

__all__ = ["render_html", "render_markdown"]

Board = Mapping[Track, Sequence[Ranked]]
LONGEST = 1e6


@dataclass(frozen=True)
class Column:
    """A column of the table: heading, figures, and the direction in which they are better (0: none)."""

    title: str
    value: Callable[[Ranked], float | None]
    form: str = "{:.2f}"
    better: int = 0
    is_score: bool = False

    def text(self, ranked: Ranked) -> str:
        """The figure, or a dash."""
        value = self.value(ranked)
        if value is None:
            return "–"
        return self.form.format(value) if abs(value) < LONGEST else f"{value:.2e}" if value < math.inf else "∞"


def render_markdown(board: Board, *, year: int = 2025) -> str:
    """A heading and a table for each track; the best figure of a column is bold."""
    parts = []
    for track, rows in board.items():
        columns = _columns(track, rows)
        best = _best(columns, rows)
        lines = [f"## {track.title}", "", _about(track, year), ""]
        lines.append("| # | Model | " + " | ".join(column.title for column in columns) + " | Set | Date |")
        lines.append("|--:|:--|" + "--:|" * len(columns) + ":--|:--|")
        for number, row in enumerate(rows):
            cells = [
                f"**{column.text(row)}**" if number in best[column.title] else column.text(row) for column in columns
            ]
            name = markdown_cell(row.entry.name) + (f" ({markdown_cell(row.note)})" if row.note else "")
            entry = row.entry
            ends = [markdown_cell(entry.dataset or "–"), markdown_cell(entry.date or "–")]
            lines.append("| " + " | ".join([str(row.place or "–"), name, *cells, *ends]) + " |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def render_html(board: Board, *, year: int = 2025, title: str = "Leaderboard") -> str:
    """The page as text: for each track the table and the plots."""
    return fill_page(
        "restore.leaderboard",
        "board.html",
        title=title,
        sections=[_section(track, rows, year) for track, rows in board.items()],
        num_entries=sum(len(rows) for rows in board.values()),
    )


def _section(track: Track, rows: Sequence[Ranked], year: int) -> dict[str, Any]:
    columns = _columns(track, rows)
    best = _best(columns, rows)
    table = [
        {
            "place": row.place,
            "name": row.entry.name,
            "note": row.note,
            "dataset": row.entry.dataset or "–",
            "date": row.entry.date or row.entry.source or "–",
            "cells": [
                {
                    "text": column.text(row),
                    "value": column.value(row),
                    "best": number in best[column.title],
                    "score": column.is_score,
                }
                for column in columns
            ],
        }
        for number, row in enumerate(rows)
    ]
    return {
        "key": track.name,
        "title": track.title,
        "about": _about(track, year),
        "columns": columns,
        "rows": table,
        "plots": _plots(track, rows),
        "kinds": len({bool(row.entry.source) for row in rows}) > 1,
    }


def _plots(track: Track, rows: Sequence[Ranked]) -> list[str]:
    quality = "main" if track.kind == "opinions" else "psnr"
    label = "SRCC + PLCC" if track.kind == "opinions" else "PSNR [dB]"
    drawn = []
    for key, axis in (("runtime_ms", "Runtime [ms]"), ("params_m", "Parameters [M]")):
        points = [
            Dot(
                row.entry.cost[key],
                row.entry.scores[quality],
                f"{row.entry.name}: {row.entry.scores[quality]:.3f}, {axis} {row.entry.cost[key]:.4g}",
                row.entry.name,
                "other" if row.entry.source else "own",
            )
            for row in rows
            if row.entry.cost.get(key) and row.entry.scores.get(quality) is not None
        ]
        drawn.append(scatter(points, axis, label, x_is_log=True))
    return [plot for plot in drawn if plot]


def _columns(track: Track, rows: Sequence[Ranked]) -> list[Column]:
    """The columns that at least one row has."""
    if track.name == "esr":
        candidates = [Column("Score", lambda row: row.value, "{:.3f}", -1, is_score=True)]
    else:
        candidates = []
    quality = [
        ("main", "SRCC + PLCC", "{:.4f}"),
        ("srcc", "SRCC", "{:.4f}"),
        ("plcc", "PLCC", "{:.4f}"),
        ("perceptual", "Perceptual", "{:.3f}"),
        ("psnr", "PSNR [dB]", "{:.2f}"),
        ("psnr_test", "PSNR, test [dB]", "{:.2f}"),
        ("ssim", "SSIM", "{:.4f}"),
    ]
    cost = [
        ("runtime_ms", "Runtime [ms]", "{:,.2f}", -1),
        ("params_m", "Params [M]", "{:.3f}", -1),
        ("flops_g", "MACs [G]", "{:,.2f}", -1),
        ("activations_m", "Acts [M]", "{:,.2f}", -1),
        ("memory_mib", "Memory [MiB]", "{:,.0f}", -1),
        ("num_conv", "Conv", "{:.0f}", 0),
    ]
    for key, title, form in quality:
        candidates.append(Column(title, _score(key), form, 1, is_score=key == track.score))
    for key, title, form, better in cost:
        candidates.append(Column(title, _cost(key), form, better))
    return [column for column in candidates if any(column.value(row) is not None for row in rows)]


def _score(key: str) -> Callable[[Ranked], float | None]:
    return lambda row: row.entry.scores.get(key)


def _cost(key: str) -> Callable[[Ranked], float | None]:
    return lambda row: row.entry.cost.get(key)


def _best(columns: Sequence[Column], rows: Sequence[Ranked]) -> dict[str, set[int]]:
    """For each column the rows that hold its best figure; none where there is nothing to compare."""
    best: dict[str, set[int]] = {}
    for column in columns:
        rivals = ((number, row) for number, row in enumerate(rows) if row.place or not column.is_score)
        values = {number: column.value(row) for number, row in rivals if column.value(row) is not None}
        best[column.title] = set()
        if column.better and len(values) > 1:
            top = max(values.values(), key=lambda value: column.better * value)
            best[column.title] = {number for number, value in values.items() if value == top}
    return best


def _about(track: Track, year: int) -> str:
    if track.name == "esr":
        rules = esr_year(year)
        weights = zip(rules.weights, ("runtime", "FLOPs", "parameters"), strict=True)
        parts = " + ".join(f"{weight:.2f} exp(2 {name}/baseline)" for weight, name in weights)
        limits = ", ".join(f"{least:.2f} dB ({split})" for split, least in rules.psnr)
        return (
            f"Ranked by the score of {year}, lower is better: {parts}. The baseline {rules.baseline} has e² = 7.389. "
            f"PSNR ({protocol(track.protocol)}) must reach {limits}. Runtimes compare on one machine only."
        )
    if track.kind == "opinions":
        return "Ranked by |SRCC| + |PLCC| of the raw predictions, higher is better."
    return f"Ranked by mean PSNR ({protocol(track.protocol)}), higher is better."
