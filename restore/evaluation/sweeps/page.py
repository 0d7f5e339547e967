"""The page of a sweep: for each task, quality against cost, and a table."""

from __future__ import annotations

from typing import Any

from restore.evaluation.sweeps.measuring import SIDES
from restore.evaluation.sweeps.results import MEASURES, Sweep
from restore.reports import charts
from restore.reports.pages import fill_page

__all__ = ["render"]

_COSTS = {"ms": "milliseconds", "macs": "multiply-adds [G]", "mib": "MiB"}


def render(sweep: Sweep, title: str) -> str:
    """The page as text."""
    tasks = [
        {
            "name": task,
            "measure": MEASURES[sweep.measure(task)],
            "rows": sweep.rows(task),
            "charts": [
                (f"{text} for {SIDES[-1]} x {SIDES[-1]} px", _chart(sweep, task, kind, text))
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


def _chart(sweep: Sweep, task: str, kind: str, text: str) -> str:
    """The measure against a cost at the larger size; empty where nothing was measured."""
    measure, dots = MEASURES[sweep.measure(task)], []
    for row in sweep.rows(task):
        cost = row.get(str(SIDES[-1]), {}).get(kind)
        if row["value"] is None or cost is None:
            continue
        value = cost / 1e9 if kind == "macs" else cost
        spread = "" if row["spread"] is None else f" ± {row['spread']:.3f}"
        words = (
            f"{row['name']}: {measure} {row['value']:.3f}{spread}, {value:.4g} {text}, {row['parameters']:,} parameters"
        )
        dots.append(charts.Dot(value, row["value"], words, name=row["name"]))
    return charts.scatter(dots, text, measure, x_is_log=True, height=420)
