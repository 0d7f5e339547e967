"""The summary of an evaluation on the terminal."""

from __future__ import annotations

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from restore.evaluation.models.results import DatasetResult, Results
from restore.evaluation.records import MetricRecord
from restore.evaluation.terminal import missing_metrics, print_wide
from restore.reports.format import figure, memory, milliseconds, signed, titled, verdict

__all__ = ["show", "summary"]

_STYLES = {"good": "green", "bad": "red", "even": ""}


def show(results: Results) -> None:
    """Print the summary on standard output."""
    print_wide(summary(results))


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


def _rows(dataset: DatasetResult, shown: dict[str, MetricRecord]) -> list[list[str | Text]]:
    done, time = len(dataset.images), dataset.milliseconds
    images = str(done) if done == dataset.num_expected else f"{done} of {dataset.num_expected}"
    cost = ["–" if time is None else milliseconds(time), memory(dataset.peak_memory_mib)]
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
