"""Restoring files on many devices, of one machine or of a cluster, through Ray Data.

Workers are actors, one for each device, each with a `Restorer` of its own; images are read and written by them, so
every machine has to see the folders under the same names. Each does a few files at a time with the code that restores
files in one process. Ray starts a worker that dies again and gives it the same files; a ledger, which is apart from the
workers, knows which of them are done, and which one was being done when a worker died for the second time: that one is
given up, and named like any other that failed.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from restore.allocator import keep_freed_memory
from restore.errors import DataError, MissingError, OptionsError, OutputError, RestoreError
from restore.inference.folder import Outcome, restore_files
from restore.inference.restorer import Restorer
from restore.jobs import Job

__all__ = ["restore_with_ray"]

BLOCK_JOBS = 8  # that a worker gets at a time, at most: enough to read ahead and write behind
BLOCKS_PER_WORKER = 4  # at least, so that none waits long for the last
PATIENCE_S = 10
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Workers:
    """How many workers, and what each of them takes.

    Attributes:
        number: of workers.
        num_gpus: of each.
        num_cpus: of each.
    """

    number: int
    num_gpus: int
    num_cpus: int


def restore_with_ray(
    jobs: Sequence[Job],
    network: nn.Module,
    runtime: Mapping[str, Any],
    *,
    quality: int = 95,
    flat: bool = False,
    num_workers: int | None = None,
    address: str | None = None,
    on_progress: Callable[[Job, float], None] | None = None,
) -> Iterator[Outcome]:
    """Restore and write every job, yielding what became of each as soon as it is known, in any order.

    Args:
        jobs: what to do.
        network: restores; it is sent to the workers.
        runtime: arguments of their `Restorer`.
        quality: of lossy formats, 1 to 100.
        flat: lay images with transparency on white.
        num_workers: by default one for each GPU, or for each machine where there is none.
        address: of a running cluster; None starts Ray on this machine, unless this process is connected already.
        on_progress: called with a job that is done.

    Raises:
        DataError: there is no cluster at `address`.
        MissingError: Ray is not installed.
        OptionsError: an argument is not allowed, or there are not enough devices.
        OutputError: nothing more can be written.
    """
    ray = _import_ray()
    with _connected(ray, address):
        workers = _share_out(ray, num_workers, str(runtime.get("device", "auto")))
        network_ref = ray.put(network.cpu())
        logger.info("%s; workers: %d", _first_worker(ray, workers, network_ref, runtime), workers.number)
        ledger = ray.remote(num_cpus=0)(_Ledger).remote()
        for done in _restored(
            ray, jobs, workers, (network_ref, dict(runtime), {"quality": quality, "flat": flat}, ledger)
        ):
            if done["fatal"]:
                raise OutputError(done["error"])
            job = jobs[done["number"]]
            if on_progress:
                on_progress(job, 1.0)
            error = done["error"].replace(str(job.source.absolute()), str(job.source))  # as the user called it
            yield Outcome(job, error=error or None, seconds=done["seconds"])


class _Ledger:
    """What is known of every job, wherever it is being done."""

    def __init__(self) -> None:
        self._begun: set[int] = set()
        self._begun_alone: set[int] = set()
        self._ended: dict[int, tuple[str, float]] = {}

    def begin(self, numbers: list[int]) -> tuple[dict[int, tuple[str, float]], bool]:
        """Note that a block is begun; its jobs that have ended, and whether it was begun before."""
        again = not self._begun.isdisjoint(numbers)
        self._begun.update(numbers)
        return {number: self._ended[number] for number in numbers if number in self._ended}, again

    def begin_alone(self, number: int) -> bool:
        """Note that a job is begun with no other beside it; whether it may be: no worker died of it."""
        if number in self._begun_alone:
            return False
        self._begun_alone.add(number)
        return True

    def end(self, number: int, error: str, seconds: float) -> None:
        """Note what became of a job."""
        self._ended[number] = error, seconds


class _Worker:
    """A `Restorer` in a process of its own."""

    def __init__(self, network_ref: Any, runtime: Mapping[str, Any], how: Mapping[str, Any], ledger: Any):
        import ray

        keep_freed_memory()
        self._ask, self._ledger = ray.get, ledger
        self._restorer = Restorer(ray.get(network_ref), **runtime)
        self._how = how

    def __call__(self, block: Mapping[str, np.ndarray]) -> dict[str, list[Any]]:
        """Restore a block of jobs; one row for each of them."""
        paths = zip(block["source"].tolist(), block["target"].tolist(), strict=True)
        jobs = dict(zip(block["number"].tolist(), (Job(Path(a), Path(b)) for a, b in paths), strict=True))
        ended, again = self._ask(self._ledger.begin.remote(list(jobs)))
        left = {number: job for number, job in jobs.items() if number not in ended}
        rows = [(number, *what, False) for number, what in ended.items()]
        try:
            rows += self._alone(left) if again else self._together(left)
        except OutputError as error:
            rows.append((-1, str(error), 0.0, True))
        return dict(zip(("number", "error", "seconds", "fatal"), map(list, zip(*rows, strict=True)), strict=True))

    def _alone(self, jobs: dict[int, Job]) -> Iterator[tuple[int, str, float, bool]]:
        """One after another: a worker died of this block, and it may do so again."""
        for number, job in jobs.items():
            if self._ask(self._ledger.begin_alone.remote(number)):
                yield from self._together({number: job})
            else:
                yield number, f"'{job.source}': the worker that restores it dies every time", 0.0, False

    def _together(self, jobs: dict[int, Job]) -> Iterator[tuple[int, str, float, bool]]:
        numbers = {job: number for number, job in jobs.items()}
        for outcome in restore_files(jobs.values(), self._restorer, **self._how):
            number, error = numbers[outcome.job], outcome.error or ""
            self._ledger.end.remote(number, error, outcome.seconds)
            yield number, error, outcome.seconds, False


def _restored(ray: Any, jobs: Sequence[Job], workers: Workers, of_worker: tuple[Any, ...]) -> Iterator[dict[str, Any]]:
    """What workers say of the jobs, a row for each."""
    size = min(BLOCK_JOBS, -(-len(jobs) // (workers.number * BLOCKS_PER_WORKER)))
    rows = [
        {"number": number, "source": str(job.source.absolute()), "target": str(job.target.absolute())}
        for number, job in enumerate(jobs)
    ]
    dataset = ray.data.from_items(rows, override_num_blocks=-(-len(rows) // size)).map_batches(
        _Worker,
        batch_size=size,
        fn_constructor_args=of_worker,
        compute=ray.data.ActorPoolStrategy(size=workers.number),
        num_cpus=workers.num_cpus,
        num_gpus=workers.num_gpus,
    )
    yield from dataset.iter_rows()


def _import_ray() -> Any:
    """Ray, with its own progress bars and reports switched off.

    Raises:
        MissingError: it is not installed.
    """
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise MissingError(
            "--engine ray needs Ray, which is not installed: pip install 'restore-toolkit[ray]'"
        ) from error
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    for name in ("ray.data", "ray.data.dataset"):
        logging.getLogger(name).setLevel(logging.ERROR)
    return ray


@contextlib.contextmanager
def _connected(ray: Any, address: str | None) -> Iterator[None]:
    """A connection to Ray; one that was there before stays."""
    if ray.is_initialized():
        yield
        return
    where = {"address": address} if address else {"include_dashboard": False}
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # its notes to its own developers
    try:
        if address and ":" in address:
            host, port = address.removeprefix("ray://").rsplit(":", 1)
            socket.create_connection((host, int(port)), timeout=PATIENCE_S).close()  # Ray itself tries for minutes
        ray.init(**where, logging_level=logging.ERROR, log_to_driver=False)
    except (OSError, ValueError, RuntimeError) as error:
        raise DataError(f"no Ray cluster answers at '{address or 'this machine'}': {error}") from error
    try:
        yield
    finally:
        ray.shutdown()


def _share_out(ray: Any, number: int | None, device: str) -> Workers:
    """The devices of the cluster, shared out among the workers."""
    if number is not None and number < 1:
        raise OptionsError(f"--workers is {number}: must be a whole number of at least 1.")
    if ":" in device:
        raise OptionsError(
            f"--device is '{device}': with --engine ray each worker has its own; give auto, cpu or cuda."
        )
    resources = ray.cluster_resources()
    gpus, cpus = int(resources.get("GPU", 0)), int(resources.get("CPU", 1))
    if device != "cpu" and gpus:
        if number and number > gpus:
            raise OptionsError(f"--workers is {number}, and the cluster has {gpus} GPUs: each worker takes one.")
        number = number or gpus
        return Workers(number, 1, max(1, min(cpus // number, 4)))
    machines = sum(node["Alive"] for node in ray.nodes())
    number = number or machines
    if number > cpus:
        raise OptionsError(f"--workers is {number}, and the cluster has {cpus} processors: each worker takes one.")
    return Workers(number, 0, max(1, cpus // number))


def _first_worker(ray: Any, workers: Workers, network_ref: Any, runtime: Mapping[str, Any]) -> str:
    """How a worker describes itself; meets its errors where there is one message for all of them.

    Raises:
        RestoreError: what the worker raised.
    """

    def describe(network: nn.Module) -> str:
        return Restorer(network, **runtime).describe()

    remotely = ray.remote(num_cpus=workers.num_cpus, num_gpus=workers.num_gpus, max_retries=0)(describe)
    try:
        return str(ray.get(remotely.remote(network_ref)))
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, RestoreError):
            raise error.cause from None
        raise
