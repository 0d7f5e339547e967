"""Runs a training whose parts are built; `restore.assembly.trainings` builds them as an option file says."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass

from restore.data.loading import Batch
from restore.training.folder import RunFolder, RunLog
from restore.training.plot import plot_history
from restore.training.trainer import Trainer

__all__ = ["Training", "train"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Training:
    """A training that can begin; nothing is written yet.

    Attributes:
        trainer: at the iteration to go on from.
        batches: those of this process for the iterations still to do, on its device.
        folder: where the run leaves its files.
        resumed: whether the run goes on from a checkpoint, so that its folder stays.
        about: what is trained on, for the log.
    """

    trainer: Trainer
    batches: Iterable[Batch]
    folder: RunFolder
    resumed: bool
    about: str


def train(training: Training, run_log: RunLog) -> int:
    """Train to the end of the plan; returns the exit code: 0 done, 130 interrupted and saved.

    Args:
        training: what to do.
        run_log: what was said while the training was built; from here on it is written to the run's folder.

    Raises:
        RestoreError: the data or the losses are bad, something cannot be written, or memory is not enough.
    """
    is_main = training.trainer.processes.is_main
    if is_main:
        training.folder.open(fresh=not training.resumed)
        run_log.write_to(training.folder.log_file())
    log.info("%s", training.about)
    training.trainer.fit(training.batches)
    if is_main:
        log.info("curves: %s", plot_history(training.folder.root))
    return 130 if training.trainer.interrupted else 0
