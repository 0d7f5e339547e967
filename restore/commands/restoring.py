"""Jobs on the terminal: a progress bar, a summary, an exit code; whatever engine does the work."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from restore.allocator import give_back_memory
from restore.commands.progress import naming_progress, summarise
from restore.errors import ImageError, RestoreError
from restore.terminal import open_console, tell_json

if TYPE_CHECKING:
    from restore.inference.folder import Outcome
    from restore.jobs import Job

    Engine = Callable[..., Iterator[Outcome]]

__all__ = ["run_jobs", "tell_outcomes"]


def run_jobs(jobs: list[Job], engine: Engine, *, num_skipped: int = 0, as_json: bool = False) -> int:
    """Restore files with a progress bar and a summary; the exit code.

    Args:
        jobs: what to do.
        engine: takes jobs, and `on_progress` to be called with a job and the share of it that is done; yields outcomes.
        num_skipped: jobs that are done already.
        as_json: print what became of every job as JSON.

    Raises:
        ImageError: there was one job, and it failed.
        OutputError: nothing more can be written.
        KeyboardInterrupt: after the summary of what was done.
    """

    console = open_console(stderr=True)
    outcomes: list[Outcome] = []
    started = time.perf_counter()
    try:
        with naming_progress(len(jobs), console=console, percent=True) as show:

            def on_progress(job: Job, share: float) -> None:
                show(job.source.name, len(outcomes) + share)

            for outcome in engine(jobs, on_progress=on_progress):
                outcomes.append(outcome)
                show(outcome.job.source.name, len(outcomes))
        give_back_memory()  # the end of the interpreter loads more of torch's libraries, on top of what is kept
    finally:
        if outcomes or not isinstance(sys.exc_info()[1], RestoreError):  # one that says why nothing was begun is enough
            made = f"restored in {time.perf_counter() - started:.1f} s"
            summarise(console, outcomes, made, len(jobs), num_skipped, name_failed=len(jobs) > 1)
            if as_json:
                tell_outcomes(outcomes, len(jobs), num_skipped)
    failed = [outcome for outcome in outcomes if outcome.error]
    if failed and len(jobs) == 1 and not num_skipped:
        raise ImageError(failed[0].error)
    return 1 if failed else 0


def tell_outcomes(outcomes: list[Outcome], num_jobs: int, num_skipped: int) -> None:
    """Print as JSON what became of every job."""
    files = [
        {"source": each.job.source, "target": each.job.target, "error": each.error, "seconds": each.seconds}
        for each in outcomes
    ]
    failed = sum(bool(each.error) for each in outcomes)
    counts = {"restored": len(outcomes) - failed, "failed": failed, "done_before": num_skipped}
    tell_json({**counts, "left": num_jobs - len(outcomes), "files": files})
