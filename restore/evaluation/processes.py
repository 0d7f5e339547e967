"""How many processes share a job, and how they come to be.

They are forked from a server that has imported what is heavy once, for all of them. Nothing heavy is imported here, so
that the server can be at work on that while the first process does the same.
"""

from __future__ import annotations

import multiprocessing
import os
from multiprocessing.context import BaseContext

__all__ = ["context", "num_cores", "num_processes", "start_server"]

IMAGES_PER_PROCESS = 8  # fewer do not pay for its start


def num_processes(jobs: int | None, num_tasks: int) -> int:
    """As many as were asked for, or one for each core, if there is enough to do."""
    if jobs is not None:
        return max(1, min(jobs, num_tasks))
    return max(1, min(num_cores(), num_tasks // IMAGES_PER_PROCESS))


def num_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def context(module: str) -> BaseContext:
    """How processes are started that work with `module`."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    chosen = multiprocessing.get_context("forkserver")
    chosen.set_forkserver_preload([module])
    return chosen


def start_server(module: str) -> None:
    """Start the server for processes that work with `module`, and do not wait for it."""
    if context(module).get_start_method() == "forkserver":
        from multiprocessing.forkserver import ensure_running

        ensure_running()
