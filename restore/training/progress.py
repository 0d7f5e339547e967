"""What a run says about itself: a live bar on a terminal, plain lines in a log, scalars for TensorBoard."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta

import torch

from restore.inference.memory import peak_resident_bytes
from restore.training.trainer import Callback, Trainer

__all__ = ["Bar", "Report", "Scalars"]

log = logging.getLogger(__name__)

Scalars = Callable[[Mapping[str, float], int], None]


class Report(Callback):
    """Every `every` iterations: losses, rate, speed, share of the time spent waiting for data, memory, time left.

    Args:
        every: iterations between reports.
        sinks: called with all scalars and the iteration; the list may grow later.
        more: further ones.
    """

    def __init__(self, every: int, sinks: Sequence[Scalars], *more: Scalars):
        self.every = every
        self.sinks = sinks
        self.more = more
        self._reported = 0

    def after_iteration(self, trainer: Trainer) -> None:
        """Report if it is time."""
        if not (trainer.due(self.every) or trainer.last):
            return
        losses = trainer.fetch_losses()
        elapsed, waiting = trainer.clock.lap()
        done = trainer.iteration - (self._reported or trainer.started_at)
        self._reported = trainer.iteration
        speed = done / elapsed if elapsed else 0.0
        scalars = {
            **losses,
            "lr": trainer.rates["g"].optimizer.param_groups[0]["lr"],
            "it_per_s": speed,
            "data_wait": waiting / elapsed if elapsed else 0.0,
            "memory_mib": _memory_mib(trainer.device),
        }
        log.info("%s", _line(trainer, scalars, losses))
        for sink in (*self.sinks, *self.more):
            sink(scalars, trainer.iteration)


class Bar(Callback):
    """A live progress bar with the latest losses; used where standard error is a terminal.

    Args:
        total_iter: iterations of the whole run.
        start_iter: where the run begins.
    """

    def __init__(self, total_iter: int, start_iter: int = 0):
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            transient=True,
        )
        self._task = self._progress.add_task("training", total=total_iter, completed=start_iter)

    @staticmethod
    def wanted() -> bool:
        """Whether standard error is a terminal."""
        return sys.stderr.isatty()

    def after_iteration(self, trainer: Trainer) -> None:
        """Advance the bar."""
        self._progress.start()
        self._progress.update(self._task, completed=trainer.iteration)
        if trainer.last:
            self._progress.stop()

    def show(self, scalars: Mapping[str, float], iteration: int) -> None:
        """A sink for `Report`: the latest losses beside the bar."""
        shown = [f"{name} {value:.4g}" for name, value in scalars.items() if name.startswith("l_")]
        self._progress.update(self._task, description="  ".join([*shown, f"{scalars['it_per_s']:.2f} it/s"]))


def _line(trainer: Trainer, scalars: Mapping[str, float], losses: Mapping[str, float]) -> str:
    total = trainer.plan.total_iter
    speed = scalars["it_per_s"]
    left = timedelta(seconds=round((total - trainer.iteration) / speed)) if speed else "?"
    return "  ".join(
        [
            f"iter {trainer.iteration:,}/{total:,}",
            f"eta {left}",
            f"lr {scalars['lr']:.3e}",
            *(f"{name} {value:.4e}" for name, value in losses.items()),
            f"{speed:.2f} it/s",
            f"data {scalars['data_wait']:.0%}",
            f"memory {scalars['memory_mib']:,.0f} MiB",
        ]
    )


def _memory_mib(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return peak_resident_bytes() / 2**20
