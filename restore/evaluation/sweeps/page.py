"""The page of a sweep: for each task, quality against cost, and a table."""

from __future__ import annotations

from typing import Any

from restore.evaluation.sweeps.measuring import SIDES
from restore.evaluation.sweeps.results import Sweep
from restore.reports import charts
from restore.reports.pages import fill_page

__all__ = ["render"]

_COSTS = {"ms": "milliseconds", "macs": "multiply-adds [G]", "mib": "MiB"}


def render(sweep: Sweep, title: str) -> str:
    """The page as text."""
    tasks = [
        {
            "name": task,
            "rows": sweep.rows(task),
            "charts": [
                (f"{text} for {SIDES[-1]} x {SIDES[-1]} px", _chart(sweep.rows(task), kind, text))
                for kind, text in _COSTS.items()
            ],
        }
        for task in sweep.tasks()
    ]
    facts = [f"{key.replace('_', ' ')}: {_words(value)}" for key, value in sweep.settings.items() if value]
    return fill_page(
        "restore.evaluation.sweeps",
        "sweep.html",
        title=title,
        facts=facts,
        tasks=tasks,
        sides=[str(side) for side in SIDES],
        environment=sweep.environment,
    )


def _words(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _chart(rows: list[dict[str, Any]], kind: str, text: str) -> str:
    """PSNR against a cost at the larger size; empty where nothing was measured."""
    dots = []
    for row in rows:
        cost = row.get(str(SIDES[-1]), {}).get(kind)
        if row["psnr"] is None or cost is None:
            continue
        value = cost / 1e9 if kind == "macs" else cost
        spread = "" if row["spread"] is None else f" ± {row['spread']:.3f}"
        words = f"{row['name']}: {row['psnr']:.3f}{spread} dB, {value:.4g} {text}, {row['parameters']:,} parameters"
        dots.append(charts.Dot(value, row["psnr"], words, name=row["name"]))
    return charts.scatter(dots, text, "PSNR [dB]", x_is_log=True, height=420)
