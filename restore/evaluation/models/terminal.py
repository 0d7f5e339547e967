"""The summary of an evaluation on the terminal."""

from __future__ import annotations

from collections.abc import Mapping

from rich import box
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from restore.evaluation.models.results import DatasetResult, Results
from restore.evaluation.records import MetricRecord
from restore.reports.format import figure, heading, memory, milliseconds, signed, verdict

__all__ = ["missing_metrics", "print_wide", "show", "summary", "titled"]

_STYLES = {"good": "green", "bad": "red", "even": ""}


def show(results: Results) -> None:
    """Print the summary on standard output."""
    print_wide(summary(results))


def print_wide(content: Group) -> None:
    """Print on standard output: as wide as the terminal, or 110 columns in a file or a pipe, which have no width."""
    console = Console(highlight=False, markup=False, emoji=False)  # names of files and datasets are no markup
    if not console.is_terminal:
        console.width = 110
    console.print(content)


def summary(results: Results) -> Group:
    """A table with one block for each dataset and one row for each metric; what is missing stands below."""
    table = Table(
        title=results.name,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,  # so that it fits 80 columns
    )
    table.add_column("dataset", overflow="fold", min_width=8)
    table.add_column("images", justify="right", no_wrap=True)
    table.add_column("metric", no_wrap=True)
    table.add_column(results.baseline, justify="right", style="dim", no_wrap=True)
    for column in ("restored", "gain", "ms/image", "memory"):
        table.add_column(column, justify="right", no_wrap=True)
    shown = {label: metric for label, metric in results.metrics.items() if metric.missing is None}
    for dataset in results.datasets:
        for row in _rows(dataset, shown):
            table.add_row(*row)
        table.add_section()
    return Group(table, *missing_metrics(results.metrics))


def missing_metrics(metrics: Mapping[str, MetricRecord]) -> list[Text]:
    """A line for each metric that could not be measured."""
    return [
        Text(f"{heading(label)} is missing: {metric.missing}", style="yellow")
        for label, metric in metrics.items()
        if metric.missing
    ]


def titled(label: str, metric: MetricRecord) -> str:
    """What stands above the values of a metric: `PSNR dB ↑`."""
    unit = f" {metric.unit}" if metric.unit else ""
    return f"{heading(label)}{unit} {'↑' if metric.better == 'higher' else '↓'}"


def _rows(dataset: DatasetResult, shown: dict[str, MetricRecord]) -> list[list[str | Text]]:
    done, time = len(dataset.images), dataset.milliseconds
    images = str(done) if done == dataset.num_expected else f"{done} of {dataset.num_expected}"
    cost = ["–" if time is None else milliseconds(time), memory(dataset.peak_memory_mb)]
    rows = [_figures(label, shown[label], means) for label, means in dataset.summary(shown).items()]
    first, *others = rows or [["–"] * 4]
    return [[dataset.name, images, *first, *cost], *(["", "", *other, "", ""] for other in others)]


def _figures(label: str, metric: MetricRecord, means: dict[str, float | None]) -> list[str | Text]:
    sides = [means["baseline"], means["restored"]]
    difference = means["difference"]
    gain = "–" if difference is None else Text(signed(difference, metric), _STYLES[verdict(difference, metric)])
    return [
        titled(label, metric),
        *("–" if value is None else figure(value, metric) for value in sides),
        gain,
    ]
