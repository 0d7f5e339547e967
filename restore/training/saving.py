"""Writes checkpoints while training, and takes a run up again from one."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from restore.data.sampling import StreamSampler
from restore.errors import TrainingError
from restore.networks.checkpoint import NETWORK_BLOCK, load_weights, read_state_dict
from restore.training.checkpoints import CheckpointFolder
from restore.training.distribution import unwrapped
from restore.training.sharding import is_split, split_like, whole
from restore.training.trainer import Callback, Trainer

__all__ = ["Saver", "network_files", "resume"]

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
            "restore": {
                **trainer.state_dict(),
                "seed": self.sampler.seed,
                "position": position,
                "optimizer_types": [type(optimizer).__name__ for optimizer in trainer.optimizers.values()],
            },
        }


def network_files(trainer: Trainer, blocks: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """What the file of each network holds: `params`, `params_ema` where there is an average, and its option block.

    Every process must ask; the result is complete in the main one.
    """
    keep = trainer.processes.is_main
    files = {
        letter: {"params": _weights(network, keep), NETWORK_BLOCK: copy.deepcopy(dict(blocks[letter]))}
        for letter, network in trainer.objective.networks.items()
    }
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
    types = state.get("restore", {}).get("optimizer_types") or [None] * len(trainer.optimizers)
    for letter, saved, kind in zip(trainer.optimizers, state["optimizers"], types, strict=True):
        if not _starts_afresh(trainer.optimizers[letter], saved, kind, letter, ignored=letter not in models):
            _load_optimizer(trainer.optimizers[letter], saved)
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


def _starts_afresh(optimizer: Optimizer, saved: dict[str, Any], kind: str | None, letter: str, ignored: bool) -> bool:
    """Whether moments of the state are of no use to an optimizer, and are left where they are.

    Args:
        optimizer: of the network `letter`.
        saved: its part of the state.
        kind: the name of the optimizer that wrote it, where that is known.
        letter: of the network.
        ignored: whether the network was not to be taken from the checkpoint.

    Raises:
        TrainingError: the moments are those of another network.
    """
    now = type(optimizer).__name__
    if kind is not None and kind != now and {kind, now} != {"Adam", "AdamW"}:  # which have the same moments
        log.warning(
            "train.optim_%s was %s at the checkpoint and is %s now: it starts without moments", letter, kind, now
        )
        return True
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    other = [
        f"number {number}: {tuple(value.shape)}, wanted {tuple(parameters[number].shape)}"
        for number, moments in saved["state"].items()
        for value in list(moments.values())[:3]
        if number < len(parameters)
        and isinstance(value, Tensor)
        and value.ndim
        and _is_other(value, parameters[number])
    ]
    if not other:
        return False
    if ignored:
        log.warning("network_%s was ignored, and its moments have other sizes: it starts without them", letter)
        return True
    raise TrainingError(
        f"the state to resume from belongs to another network_{letter}: of its moments, {'; '.join(other[:4])}"
        f"{' ...' if len(other) > 4 else ''}. Start afresh, with path.pretrain_network_{letter} if its weights help."
    )


def _is_other(moment: Tensor, parameter: Tensor) -> bool:
    """Whether a moment has another number of values on each side of a matrix, whichever way an optimizer folds it."""
    return moment.ndim == parameter.ndim and moment.shape != parameter.shape


def _load_optimizer(optimizer: Optimizer, saved: dict[str, Any]) -> None:
    """The moments come from the file, the options (rates, betas, decay, kernels) from the option file."""
    options = [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    moments = {
        number: {key: _fitted(value, parameters[number]) for key, value in state.items()}
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


def _fitted(value: Any, parameter: Tensor) -> Any:
    """A moment split among the processes as its parameter is, or in its memory layout, which fused kernels count on."""
    value = split_like(value, parameter)
    if is_split(value) or not isinstance(value, Tensor) or value.shape != parameter.shape:
        return value
    return torch.empty_like(parameter, dtype=value.dtype).copy_(value)


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
