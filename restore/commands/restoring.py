"""Jobs on the terminal: a progress bar, a summary, an exit code; whatever engine does the work."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from restore.errors import ImageError

if TYPE_CHECKING:
    from rich.console import Console

    from restore.inference.folder import Outcome
    from restore.inference.jobs import Job

    Engine = Callable[..., Iterator[Outcome]]

__all__ = ["run_jobs"]


def run_jobs(jobs: list[Job], engine: Engine, *, num_skipped: int = 0) -> int:
    """Restore files with a progress bar and a summary; the exit code.

    Args:
        jobs: what to do.
        engine: takes jobs, and `on_progress` to be called with a job and the share of it that is done; yields outcomes.
        num_skipped: jobs that are done already.

    Raises:
        ImageError: there was one job, and it failed.
        OutputError: nothing more can be written.
        KeyboardInterrupt: after the summary of what was done.
    """
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    outcomes: list[Outcome] = []
    started = time.perf_counter()
    name, share = TextColumn("{task.description}"), TextColumn("{task.percentage:>3.0f}%")
    try:
        columns = (BarColumn(), share, TimeRemainingColumn(), name)
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
            task = progress.add_task("", total=len(jobs))

            def show(job: Job, share: float) -> None:
                progress.update(task, completed=len(outcomes) + share, description=escape(job.source.name))

            for outcome in engine(jobs, on_progress=show):
                outcomes.append(outcome)
                progress.update(task, completed=len(outcomes))
    finally:
        _summarise(console, outcomes, len(jobs), num_skipped, time.perf_counter() - started)
    failed = [outcome for outcome in outcomes if outcome.error]
    if failed and len(jobs) == 1 and not num_skipped:
        raise ImageError(failed[0].error)
    return 1 if failed else 0


def _summarise(console: Console, outcomes: list[Outcome], num_jobs: int, num_skipped: int, seconds: float) -> None:
    from rich.markup import escape
    from rich.table import Table

    failed = [outcome for outcome in outcomes if outcome.error]
    if failed and num_jobs > 1:
        table = Table("failed", "why")
        for outcome in failed:
            table.add_row(escape(outcome.job.source.name), escape(outcome.error))
        console.print(table)
    parts = [f"{len(outcomes) - len(failed)} restored in {seconds:.1f} s"]
    parts += [f"{num_skipped} done before"] if num_skipped else []
    parts += [f"{len(failed)} failed"] if failed else []
    parts += [f"{num_jobs - len(outcomes)} left"] if len(outcomes) < num_jobs else []
    console.print(", ".join(parts), highlight=False)
