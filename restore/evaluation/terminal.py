"""What the tables on the terminal have in common."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Group
from rich.text import Text

from restore.evaluation.records import MetricRecord
from restore.reports.format import heading
from restore.terminal import open_console

__all__ = ["missing_metrics", "print_wide"]


def print_wide(content: Group) -> None:
    """Print on standard output: as wide as the terminal, or 110 columns in a file or a pipe, which have no width."""
    console = open_console(highlight=False, markup=False, emoji=False)  # names of files and datasets are no markup
    if not console.is_terminal:
        console.width = 110
    console.print(content)


def missing_metrics(metrics: Mapping[str, MetricRecord]) -> list[Text]:
    """A line for each metric that could not be measured."""
    return [
        Text(f"{heading(label)} is missing: {metric.missing}", style="yellow")
        for label, metric in metrics.items()
        if metric.missing
    ]
