"""Writes checkpoints while training, and takes a run up again from one."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from restore.data.sampling import StreamSampler
from restore.errors import TrainingError
from restore.networks.checkpoint import load_weights, read_state_dict
from restore.training.checkpoints import CheckpointFolder
from restore.training.distribution import unwrapped
from restore.training.sharding import split_like, whole
from restore.training.trainer import Callback, Trainer

__all__ = ["Saver", "network_files", "resume"]

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
        if not (trainer.due(self.every) or trainer.last):
            return
        state, files = self._state(trainer), network_files(trainer)  # which all processes contribute to
        if trainer.processes.is_main:
            self.folder.save(trainer.iteration, files, state)
            if trainer.iteration >= trainer.plan.total_iter:
                self.folder.save_models("latest", files)
            log.info("iter %s  saved %s", f"{trainer.iteration:,}", self.folder.state_path(trainer.iteration))

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


def network_files(trainer: Trainer) -> dict[str, dict[str, Any]]:
    """What the file of each network holds: `params`, and `params_ema` where there is an average.

    Every process must ask; the result is complete in the main one.
    """
    keep = trainer.processes.is_main
    files = {letter: {"params": _weights(network, keep)} for letter, network in trainer.objective.networks.items()}
    if trainer.ema:
        next(iter(files.values()))["params_ema"] = _weights(trainer.ema.network, keep)
    return files


def resume(trainer: Trainer, state: Mapping[str, Any], models: Mapping[str, Path]) -> None:
    """Bring a trainer, built as for a fresh run, to where `state` was saved.

    Args:
        trainer: the trainer.
        state: the content of a `.state` file.
        models: the file of each network, by its letter; the others keep the weights that they have.

    Raises:
        CheckpointError: a network's file is missing, or belongs to another network.
        TrainingError: the run that the state belongs to had other networks.
    """
    if len(state["optimizers"]) != len(trainer.optimizers):
        raise TrainingError(
            f"the state to resume from has {len(state['optimizers'])} optimizers and this model "
            f"{len(trainer.optimizers)}: it belongs to another model_type."
        )
    main = next(iter(trainer.objective.networks))
    for letter, path in models.items():
        _load(trainer.objective.networks[letter], path, "params")
        if letter == main and trainer.ema:
            _load(trainer.ema.network, path, "params_ema")
    for optimizer, saved in zip(trainer.optimizers.values(), state["optimizers"], strict=True):
        _load_optimizer(optimizer, saved)
    for rate, saved in zip(trainer.rates.values(), state["schedulers"], strict=False):
        _compare_schedules(rate.state_dict(state["iter"]), saved)
    trainer.iteration = state["iter"]
    if "restore" in state:
        trainer.load_state_dict(state["restore"])
    else:
        log.warning("this state was not written by this package: random generators start from the seed")


def _weights(network: nn.Module, keep: bool) -> dict[str, Tensor]:
    state = {name: value.detach() for name, value in unwrapped(network).state_dict().items()}
    return {name: value.cpu() for name, value in whole(state, keep=keep).items() if value is not None}


def _load(network: nn.Module, path: Path, key: str) -> None:
    own = unwrapped(network).state_dict()
    state = {
        name: split_like(value, own[name]) if name in own else value
        for name, value in read_state_dict(path, key).items()
    }
    load_weights(unwrapped(network), state, source=str(path))


def _load_optimizer(optimizer: Optimizer, saved: dict[str, Any]) -> None:
    """The moments come from the file, the options (rates, betas, decay, kernels) from the option file."""
    options = [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    moments = {
        number: {key: split_like(value, parameters[number]) for key, value in state.items()}
        for number, state in saved["state"].items()
        if number < len(parameters)
    }
    try:
        optimizer.load_state_dict({**saved, "state": moments})
    except (ValueError, KeyError) as error:
        raise TrainingError(f"the optimizer in the state to resume from belongs to another network: {error}") from error
    for group, chosen in zip(optimizer.param_groups, options, strict=True):
        _say_changes({key: group[key] for key in chosen if key in group and key not in _NOT_CHOSEN}, chosen)
        group.update(chosen)


def _compare_schedules(ours: Mapping[str, Any], saved: Mapping[str, Any]) -> None:
    """Say where the schedule of the option file, which is applied, is not that of the checkpoint."""
    before = {key: saved[key] for key in ours if key in saved and key not in _NOT_CHOSEN}
    if isinstance(before.get("milestones"), dict):  # BasicSR keeps them as a Counter
        before["milestones"] = sorted(before["milestones"])
    _say_changes(before, ours)


def _say_changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    for key, value in before.items():
        if value != now[key]:
            log.warning("%s was %s at the checkpoint; the option file's %s applies from here on", key, value, now[key])


_NOT_CHOSEN = {"lr", "fused", "foreach", "initial_lr", "last_epoch", "_step_count", "_last_lr"}
