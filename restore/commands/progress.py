"""What commands share on the terminal: progress bars, and the summary of what became of many files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from restore.terminal import is_quiet, one_line, open_console

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

__all__ = ["ProgressBar", "naming_progress", "summarise"]


class ProgressBar:
    """A progress bar on a terminal; nothing elsewhere. Entering it gives the function that advances it."""

    def __init__(self, description: str, total: int | None):
        from rich.markup import escape
        from rich.progress import Progress

        console = open_console(stderr=True)
        self._progress = Progress(console=console, transient=True, disable=is_quiet() or not console.is_terminal)
        self._task = self._progress.add_task(escape(description), total=total)

    def __enter__(self) -> Callable[..., None]:
        self._progress.start()
        return partial(self._progress.advance, self._task)

    def __exit__(self, *exception: object) -> None:
        _stop(self._progress)

    def resize(self, total: int) -> None:
        """Say how much there is to do, once it is known."""
        self._progress.update(self._task, total=total)

    def show(self, done: int, total: int | None) -> None:
        """Say how much is done, and how much there is to do, if it is known."""
        self._progress.update(self._task, completed=done, total=total)


@contextmanager
def naming_progress(
    total: int | None, *, console: Console | None = None, percent: bool = False
) -> Iterator[Callable[[str, float], None]]:
    """A progress bar that names what is being worked on, on a terminal; nothing elsewhere.

    Gives the function to call with that name and with how many are done, parts of one included.

    Args:
        total: how many there are to do; None where nobody knows.
        console: where to; by default standard error.
        percent: whether the share that is done stands beside the bar, instead of the count.
    """
    console = console or open_console(stderr=True)
    if is_quiet() or not console.is_terminal:
        yield lambda name, num_done: None
        return
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    done = TextColumn("{task.percentage:>3.0f}%") if percent else MofNCompleteColumn()
    columns = (BarColumn(), done, TimeRemainingColumn(), TextColumn("{task.description}"))
    progress = Progress(*columns, console=console, transient=True)
    progress.start()
    try:
        task = progress.add_task("", total=total)
        yield lambda name, num_done: progress.update(task, completed=num_done, description=escape(one_line(name)))
    finally:
        progress.stop()


def _stop(progress: Progress) -> None:
    """Rich before 15 ends a bar that is not shown with an empty line."""
    if not progress.disable:
        progress.stop()


def summarise(
    console: Console,
    outcomes: Sequence[Any],
    made: str,
    num_jobs: int,
    num_skipped: int,
    *,
    name_failed: bool = True,
) -> None:
    """Print how many files were done, skipped, failed and are left, below a table of those that failed.

    Where nothing is to be said but what is wrong, it is printed if something failed.

    Args:
        console: where to.
        outcomes: each has a `job` with a `source`, and an `error`, empty if there was none.
        made: what was done to a file: "restored in 3.1 s".
        num_jobs: how many there were to do.
        num_skipped: how many were done before.
        name_failed: whether to print the table.
    """
    from rich.markup import escape

    failed = [outcome for outcome in outcomes if outcome.error]
    if failed and name_failed:
        from rich.table import Table

        table = Table("failed", "why")
        rows = [(outcome.job.source.name, outcome.error) for outcome in failed]
        for row in dict.fromkeys(rows):  # the copies of one image fail alike
            table.add_row(*(escape(one_line(text)) for text in row))
        console.print(table)
    if is_quiet() and not failed:
        return
    parts = [f"{len(outcomes) - len(failed)} {made}"]
    parts += [f"{num_skipped} done before"] if num_skipped else []
    parts += [f"{len(failed)} failed"] if failed else []
    parts += [f"{num_jobs - len(outcomes)} left"] if len(outcomes) < num_jobs else []
    console.print(escape(one_line(", ".join(parts))), highlight=False)
