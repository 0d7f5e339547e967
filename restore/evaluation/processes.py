"""How many processes share a job, and how they come to be.

A process that runs no thread but its first is forked: what takes seconds to import (torch) is then imported once, for
all. One that runs others, as after any computation in parallel, might pass on locks that nobody opens any more; there,
processes come from a server that runs none.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from multiprocessing.context import BaseContext
from pathlib import Path

__all__ = ["context", "num_cores", "num_processes", "stay_single_threaded"]

IMAGES_PER_PROCESS = 8  # fewer do not pay for its start
_THREADS = Path("/proc/self/task")


def num_processes(num_workers: int | None, num_tasks: int) -> int:
    """As many as were asked for, or one for each core, if there is enough to do."""
    if num_workers is not None:
        return max(1, min(num_workers, num_tasks))
    return max(1, min(num_cores(), num_tasks // IMAGES_PER_PROCESS))


def num_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def stay_single_threaded() -> None:
    """Keep numpy from starting threads as it is imported, if that is still to come, so that `context` may fork."""
    if "numpy" not in sys.modules:
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def context(module: str) -> BaseContext:
    """How processes are started that work with `module`."""
    if _THREADS.is_dir() and len(list(_THREADS.iterdir())) == 1:
        return multiprocessing.get_context("fork")
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    chosen = multiprocessing.get_context("forkserver")
    chosen.set_forkserver_preload([module])
    return chosen
