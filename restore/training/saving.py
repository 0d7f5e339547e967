"""Writes checkpoints while training, and takes a run up again from one."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from torch import nn

from restore.data.sampling import StreamSampler
from restore.errors import CheckpointError, TrainingError
from restore.training.checkpoints import CheckpointFolder, load_file
from restore.training.trainer import Callback, Trainer

__all__ = ["Saver", "resume", "unwrapped"]

log = logging.getLogger(__name__)


class Saver(Callback):
    """A checkpoint every `every` iterations and at the end of the run, also when it is interrupted.

    Args:
        folder: where checkpoints go.
        every: iterations between checkpoints.
        sampler: knows the seed, and which samples an iteration ends with.
    """

    def __init__(self, folder: CheckpointFolder, every: int, sampler: StreamSampler):
        self.folder = folder
        self.every = every
        self.sampler = sampler

    def after_iteration(self, trainer: Trainer) -> None:
        """Save if it is time."""
        if trainer.due(self.every) or trainer.last:
            self.folder.save(trainer.iteration, network_files(trainer), self._state(trainer))
            log.info("iter %s  saved %s", f"{trainer.iteration:,}", self.folder.state_path(trainer.iteration))
        if trainer.iteration >= trainer.plan.total_iter:
            self.folder.save_models("latest", network_files(trainer))

    def _state(self, trainer: Trainer) -> dict[str, Any]:
        position = self.sampler.position(trainer.iteration)
        return {
            "epoch": position // self.sampler.num_images,
            "iter": trainer.iteration,
            "optimizers": [optimizer.state_dict() for optimizer in trainer.optimizers.values()],
            "schedulers": [rate.state_dict(trainer.iteration) for rate in trainer.rates.values()],
            "restore": {**trainer.state_dict(), "seed": self.sampler.seed, "position": position},
        }


def network_files(trainer: Trainer) -> dict[str, dict[str, Any]]:
    """What the file of each network holds: `params`, and `params_ema` where there is an average."""
    files = {letter: {"params": _weights(network)} for letter, network in trainer.objective.networks.items()}
    if trainer.ema:
        next(iter(files.values()))["params_ema"] = _weights(trainer.ema.network)
    return files


def resume(trainer: Trainer, folder: CheckpointFolder, state: Mapping[str, Any]) -> None:
    """Bring a trainer, built as for a fresh run, to where `state` was saved.

    Raises:
        CheckpointError: a network's file is missing, or belongs to another network.
        TrainingError: the run that the state belongs to had other networks.
    """
    iteration = state["iter"]
    if len(state["optimizers"]) != len(trainer.optimizers):
        raise TrainingError(
            f"the state to resume from has {len(state['optimizers'])} optimizers and this model "
            f"{len(trainer.optimizers)}: it belongs to another model_type."
        )
    for position, (letter, network) in enumerate(trainer.objective.networks.items()):
        path = folder.model_path(letter, iteration)
        weights = load_file(path)
        _load(network, weights["params"], path)
        if position == 0 and trainer.ema:
            _load(trainer.ema.network, weights.get("params_ema", weights["params"]), path)
    for optimizer, saved in zip(trainer.optimizers.values(), state["optimizers"]):
        optimizer.load_state_dict(saved)
    trainer.iteration = iteration
    if "restore" in state:
        trainer.load_state_dict(state["restore"])
    else:
        log.warning("this state was not written by this package: random generators start from the seed")


def unwrapped(network: nn.Module) -> nn.Module:
    """The network inside a wrapper of torch's (DistributedDataParallel, compiled module)."""
    while True:
        inner = getattr(network, "module", None) or getattr(network, "_orig_mod", None)
        if not isinstance(inner, nn.Module):
            return network
        network = inner


def _weights(network: nn.Module) -> dict[str, Any]:
    return {name: value.detach().cpu() for name, value in unwrapped(network).state_dict().items()}


def _load(network: nn.Module, weights: Mapping[str, Any], path: Any) -> None:
    try:
        unwrapped(network).load_state_dict(weights)
    except RuntimeError as error:
        raise CheckpointError(f"{path} belongs to another network. {error}") from error
