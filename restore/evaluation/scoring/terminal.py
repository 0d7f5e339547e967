"""A scoring on the terminal: every image while they are few, the worst ones otherwise, and the means."""

from __future__ import annotations

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from restore.evaluation.scoring.results import Scores, errors_in_words
from restore.evaluation.terminal import missing_metrics, print_wide
from restore.reports.format import counted_images, figure, heading, titled
from restore.terminal import one_line

__all__ = ["show", "summary"]

MOST_ROWS = 24
WORST_ROWS = 8
MOST_PROBLEMS = 20


def show(scores: Scores) -> None:
    """Print the summary on standard output."""
    print_wide(summary(scores))


def summary(scores: Scores) -> Group:
    """The table; what is missing and what failed stands below, by name."""
    problems = [(image.name, errors_in_words(image.errors)) for image in scores.failed]
    problems += list(scores.unmatched.items())
    lines = [Text(one_line(f"{name}: {reason}"), style="red") for name, reason in problems[:MOST_PROBLEMS]]
    if len(problems) > MOST_PROBLEMS:
        lines.append(Text(f"and {len(problems) - MOST_PROBLEMS} more, all of them in the report", style="red"))
    return Group(*([_table(scores)] if scores.shown else []), *missing_metrics(scores.metrics), *lines)


def _table(scores: Scores) -> Table:
    shown = scores.shown
    few = len(scores.images) <= MOST_ROWS
    images = scores.images if few else scores.ranked(next(iter(shown)))[:WORST_ROWS]
    protocol = f", protocol {scores.protocol}" if scores.protocol else ""
    table = Table(
        title=f"{scores.name} ({counted_images(len(scores.images))}{protocol})",
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    table.add_column("image" if few else f"worst {len(images)} by {heading(next(iter(shown)))}", overflow="fold")
    for label, metric in shown.items():
        table.add_column(titled(label, metric), justify="right", no_wrap=True)
    for image in images:
        cells = [figure(image.values[label], m) if label in image.values else "–" for label, m in shown.items()]
        table.add_row(one_line(image.name), *cells)
    table.add_section()
    summaries = {label: scores.summary(label) for label in shown}
    identical = len(scores.identical)
    rows = {"mean": "mean", **({f"mean without {identical} identical": "finite_mean"} if identical else {})}
    for title, statistic in {**rows, "median": "median", "deviation": "deviation"}.items():
        cells = [figure(getattr(s, statistic), shown[label]) if s else "–" for label, s in summaries.items()]
        table.add_row(title, *cells, style="bold" if title == "mean" else "dim")
    return table
