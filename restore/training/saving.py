"""Writes checkpoints while training."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping
from typing import Any

from restore.data.sampling import StreamSampler
from restore.networks.checkpoint import NETWORK_BLOCK
from restore.training.checkpoints import CheckpointFolder
from restore.training.distribution import saved_weights
from restore.training.sharding import whole
from restore.training.trainer import Callback, Trainer

__all__ = ["Saver", "network_files", "save_best"]

log = logging.getLogger(__name__)


class Saver(Callback):
    """A checkpoint every `every` iterations and at the end of the run, also when it is interrupted.

    Args:
        folder: where checkpoints go.
        every: iterations between checkpoints.
        sampler: knows the seed, and which samples an iteration ends with.
        blocks: the option block of each network, by its letter.
    """

    def __init__(
        self, folder: CheckpointFolder, every: int, sampler: StreamSampler, blocks: Mapping[str, Mapping[str, Any]]
    ):
        self.folder = folder
        self.every = every
        self.sampler = sampler
        self.blocks = blocks
        self._saved: int | None = None

    def after_iteration(self, trainer: Trainer) -> None:
        """Save if it is time."""
        if trainer.due(self.every) or trainer.last:
            self._save(trainer)

    def before_giving_up(self, trainer: Trainer) -> None:
        """Save what was not saved yet."""
        if self._saved != trainer.iteration:
            self._save(trainer)

    def _save(self, trainer: Trainer) -> None:
        state, files = self._state(trainer), network_files(trainer, self.blocks)  # which all processes contribute to
        if trainer.processes.is_main:
            self.folder.save(trainer.iteration, files, state)
            if trainer.iteration >= trainer.plan.total_iter:
                self.folder.save_models("latest", files)
            log.info("iter %s  saved %s", f"{trainer.iteration:,}", self.folder.state_path(trainer.iteration))
        self._saved = trainer.iteration

    def _state(self, trainer: Trainer) -> dict[str, Any]:
        position = self.sampler.position(trainer.iteration)
        return {
            "epoch": position // self.sampler.num_images,
            "iter": trainer.iteration,
            "optimizers": [
                whole(optimizer.state_dict(), keep=trainer.processes.is_main)
                for optimizer in trainer.optimizers.values()
            ],
            "schedulers": [rate.state_dict(trainer.iteration) for rate in trainer.rates.values()],
            "restore": {**trainer.state_dict(), "seed": self.sampler.seed, "position": position},
        }


def network_files(trainer: Trainer, blocks: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """What the file of each network holds: `params`, `params_ema` where there is an average, and its option block.

    Every process must ask; the result is complete in the main one.
    """
    keep = trainer.processes.is_main
    files = {
        letter: {"params": saved_weights(network, keep=keep), NETWORK_BLOCK: copy.deepcopy(dict(blocks[letter]))}
        for letter, network in trainer.objective.networks.items()
    }
    average = trainer.objective.average
    if average is not None:
        next(iter(files.values()))["params_ema"] = saved_weights(average.network, keep=keep)
    return files


def save_best(folder: CheckpointFolder, blocks: Mapping[str, Mapping[str, Any]], trainer: Trainer) -> None:
    """Write the networks as the best of the run; every process must call it.

    Args:
        folder: where checkpoints go.
        blocks: the option block of each network, by its letter.
        trainer: has the networks.
    """
    files = network_files(trainer, blocks)
    if trainer.processes.is_main:
        folder.save_models("best", files)
