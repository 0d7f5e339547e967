"""The summary of an evaluation on the terminal."""

from __future__ import annotations

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from restore.evaluation.format import figure, heading, memory, milliseconds, signed, verdict
from restore.evaluation.results import DatasetResult, MetricRecord, Results

__all__ = ["show", "summary"]

_STYLES = {"good": "green", "bad": "red", "even": ""}


def show(results: Results) -> None:
    """Print the summary on standard output."""
    Console(highlight=False).print(summary(results))


def summary(results: Results) -> Group:
    """A table with one row for each dataset, and a line for each metric that is missing."""
    shown = {label: metric for label, metric in results.metrics.items() if metric.missing is None}
    table = Table(title=results.name, title_justify="left", title_style="bold", header_style="bold")
    table.add_column("dataset")
    table.add_column("images", justify="right")
    for label, metric in shown.items():
        unit = f" {metric.unit}" if metric.unit else ""
        arrow = "↑" if metric.better == "higher" else "↓"
        table.add_column(f"{heading(label)}{unit} {arrow}", justify="right")
        table.add_column(results.baseline, justify="right", style="dim")
        table.add_column("gain", justify="right")
    table.add_column("ms/image", justify="right")
    table.add_column("memory", justify="right")
    for dataset in results.datasets:
        table.add_row(*_row(dataset, shown))
    missing = [
        Text(f"{heading(label)} is missing: {metric.missing}", style="yellow")
        for label, metric in results.metrics.items()
        if metric.missing
    ]
    return Group(table, *missing)


def _row(dataset: DatasetResult, shown: dict[str, MetricRecord]) -> list[str | Text]:
    count = f"{len(dataset.images)}"
    row: list[str | Text] = [dataset.name, count if len(dataset.images) == dataset.num_expected else f"{count} of {dataset.num_expected}"]
    for label, means in dataset.summary(shown).items():
        metric = shown[label]
        row += [_or_dash(means["restored"], metric), _or_dash(means["baseline"], metric)]
        difference = means["difference"]
        row.append(
            "–" if difference is None else Text(signed(difference, metric), style=_STYLES[verdict(difference, metric)])
        )
    row.append("–" if dataset.milliseconds is None else milliseconds(dataset.milliseconds))
    row.append(memory(dataset.peak_memory_mb))
    return row


def _or_dash(value: float | None, metric: MetricRecord) -> str:
    return "–" if value is None else figure(value, metric)
