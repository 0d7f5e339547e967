"""Measuring one image after the other, here or in several processes."""

from __future__ import annotations

import contextlib
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from restore.data.pairs import Pair
from restore.errors import ImageError, RestoreError
from restore.evaluation.measures import Measures
from restore.evaluation.processes import context, num_cores
from restore.images import read_image
from restore.metrics import bind_metrics
from restore.metrics.inputs import Images
from restore.workers import leave_signals_to_the_main_process

if TYPE_CHECKING:
    import torch

__all__ = ["Measured", "Task", "measure_all", "read_pixels"]

AHEAD = 4  # tasks that wait for each process


@dataclass(frozen=True)
class Task:
    """A pair, its place in the list and the metrics to compute for it."""

    index: int
    pair: Pair
    labels: tuple[str, ...]


@dataclass
class Measured:
    """What came of a task.

    Attributes:
        index: that of the task.
        size: (height, width); None when the image could not be read.
        values: by metric.
        errors: by metric, or under "" for all of them.
        missing: metrics that lack something, with what to do about it.
        note: what was done to the image first.
    """

    index: int
    size: tuple[int, int] | None = None
    values: dict[str, float] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    note: str = ""


class Measurer:
    """Computes metrics one by one, so that what stops one of them leaves the others alone.

    Args:
        blocks: the option block of each metric, by label.
        device: where they are computed.
    """

    def __init__(self, blocks: Mapping[str, Mapping[str, Any]], device: str = "cpu"):
        self._device = device
        metrics = bind_metrics(blocks, "--metrics")
        self._measures = {label: Measures({label: metric}) for label, metric in metrics.items()}
        self._comparing = {label for label, metric in metrics.items() if metric.traits.needs_reference}

    def __call__(self, task: Task) -> Measured:
        """Read the files of a task and measure them; a reference is read where a metric compares with it."""
        result = Measured(task.index)
        comparing = self._comparing.intersection(task.labels)
        try:
            restored, restored_note = read_pixels(task.pair.lq)
            result.size = restored.shape[:2]
            reference, reference_note = read_pixels(task.pair.gt) if task.pair.gt and comparing else (None, "")
        except ImageError as error:
            result.errors[""] = str(error)
            return result
        result.note = "; ".join(filter(None, [restored_note, reference_note]))
        if self._device != "cpu":
            restored, reference = (_on_device(pixels, self._device) for pixels in (restored, reference))
        for label in task.labels:
            self._measure(label, restored, reference, result)
        return result

    def _measure(self, label: str, restored: Images, reference: Images | None, result: Measured) -> None:
        measures = self._measures[label]
        try:
            with _without_gradients():
                values = measures(restored, reference)
        except ImageError as error:
            result.errors[label] = str(error)
            return
        if measures.records[label].missing:
            result.missing[label] = measures.records[label].missing
        elif math.isnan(values[label]):
            result.errors[label] = "the result is not a number (NaN)"
        else:
            result.values[label] = values[label]


def _without_gradients() -> contextlib.AbstractContextManager[object]:
    """Nothing where no metric has imported torch."""
    torch = sys.modules.get("torch")
    return torch.no_grad() if torch else contextlib.nullcontext()


def _on_device(pixels: np.ndarray | None, device: str) -> torch.Tensor | None:
    """Pixels (H, W[, C]) as a tensor (1, C, H, W) of the same depth."""
    import torch

    if pixels is None:
        return None
    pixels = pixels if pixels.ndim == 3 else pixels[..., None]
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))[None].to(device)


def read_pixels(path: Path) -> tuple[np.ndarray, str]:
    """Grey or RGB pixels of a file and a note on what was left out of it.

    Raises:
        ImageError: the file cannot be read, or holds values that are not numbers, or beyond [0, 1].
    """
    image = read_image(path, unit=True)
    pixels, note = image.pixels, ""
    if image.has_alpha:
        pixels = pixels[..., 0] if pixels.shape[2] == 2 else pixels[..., :3]
        note = f"the alpha channel of {path.name} is left out"
    return np.ascontiguousarray(pixels), note


def measure_all(
    tasks: Sequence[Task], blocks: Mapping[str, Mapping[str, Any]], *, device: str = "cpu", num_workers: int = 1
) -> Iterator[Measured]:
    """The results, each as soon as it is there.

    Raises:
        RestoreError: a process died.
    """
    if num_workers == 1:
        yield from map(Measurer(blocks, device), tasks)
        return
    threads = max(1, num_cores() // num_workers)
    if any(block.get("luma") for block in blocks.values()):
        import torch  # noqa: F401 - once, for all processes
    pool = ProcessPoolExecutor(
        num_workers, context(__name__), initializer=_start, initargs=(dict(blocks), device, threads)
    )
    try:
        yield from _in_order_of_completion(pool, tasks, num_workers * AHEAD)
    except BrokenProcessPool as error:
        raise RestoreError(
            "a process died, most likely because memory ran out. What was finished is kept: run the same command again "
            "with fewer --workers."
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _in_order_of_completion(pool: ProcessPoolExecutor, tasks: Sequence[Task], most_waiting: int) -> Iterator[Measured]:
    """Keeps a few tasks waiting, no more, so that an interruption finds little to finish."""
    waiting: set[Future[Measured]] = set()
    for task in tasks:
        if len(waiting) >= most_waiting:
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in done)
        waiting.add(pool.submit(_work, task))
    while waiting:
        done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
        yield from (future.result() for future in done)


_measurer: Measurer | None = None


def _start(blocks: Mapping[str, Mapping[str, Any]], device: str, threads: int) -> None:
    global _measurer
    leave_signals_to_the_main_process()
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
    _measurer = Measurer(blocks, device)


def _work(task: Task) -> Measured:
    assert _measurer is not None, "the process was started by _start"
    return _measurer(task)
