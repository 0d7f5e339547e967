"""Takes a run up again from a checkpoint, and says what the option file has changed since."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from restore.errors import CheckpointError, TrainingError
from restore.networks.checkpoint import read_state_dict
from restore.training.checkpoints import CheckpointFolder, read_state
from restore.training.distribution import Processes, load_saved_weights, restarted
from restore.training.sharding import is_split, split_like
from restore.training.trainer import Trainer

__all__ = ["resume", "state_to_resume"]

log = logging.getLogger(__name__)

SavedState = tuple[Path, dict[str, Any]]


def state_to_resume(
    folder: CheckpointFolder, processes: Processes, *, newest: bool = False, named: str | Path | None = None
) -> SavedState | None:
    """The state to go on from; None for a fresh start.

    Args:
        folder: the checkpoints of the run.
        processes: which agree on it.
        newest: take the newest state that the main process can read; so do processes that stand in for others.
        named: a `.state` file, where there is no newest.
    """
    wanted = newest or restarted()
    found = processes.first(folder.newest() if wanted and processes.is_main else None)
    if found is None and named:
        found = Path(named), read_state(named)
    if found:
        log.info("resuming from %s", found[0])
    elif wanted:
        log.info("nothing to resume in %s: starting anew", folder.states)
    return found


def resume(trainer: Trainer, saved: SavedState, ignored: Collection[str] = ()) -> None:
    """Bring a trainer, built as for a fresh run, to where a state was saved.

    Args:
        trainer: the trainer.
        saved: a `.state` file and its content; the networks' files are found beside it.
        ignored: option keys of the networks (`network_d`) that keep the weights that they have.

    Raises:
        CheckpointError: a network's file is missing, or belongs to another network.
        TrainingError: the run that the state belongs to had other networks.
    """
    path, state = saved
    ours = state.get("restore", {})
    setting = ours.get("setting", {})
    if len(state["optimizers"]) != len(trainer.optimizers):
        raise TrainingError(
            f"the state to resume from has {len(state['optimizers'])} optimizers and this model "
            f"{len(trainer.optimizers)}: it belongs to another model_type."
        )
    main, average = next(iter(trainer.objective.networks)), trainer.objective.average
    for letter, file in _models_of(path, state, trainer.objective.networks, ignored).items():
        load_saved_weights(trainer.objective.networks[letter], read_state_dict(file, "params"), str(file))
        if letter == main and average is not None:
            load_saved_weights(average.network, read_state_dict(file, "params_ema"), str(file))
    for (letter, optimizer), moments in zip(trainer.optimizers.items(), state["optimizers"], strict=True):
        name = type(optimizer).__name__
        before = setting.get(f"train.optim_{letter}.type", name)
        if {before, name} not in _ALIKE and (before != name or (not ours and _is_foreign(optimizer, moments))):
            was = before if before != name else "another optimizer"
            log.warning("train.optim_%s was %s at the checkpoint, %s now: it starts without moments", letter, was, name)
        elif _fits(optimizer, moments, letter, ignored=f"network_{letter}" in ignored):
            _load_optimizer(optimizer, moments)
    _say_changes(setting, trainer.setting)
    for rate, before in zip(trainer.rates.values(), state["schedulers"], strict=False):
        _compare_schedules(rate.state_dict(state["iter"]), before)
    trainer.iteration = state["iter"]
    if ours:
        trainer.load_state_dict(ours)
    else:
        log.warning("this state was not written by this package: random generators start from the seed")


def _models_of(
    path: Path, state: Mapping[str, Any], letters: Iterable[str], ignored: Collection[str]
) -> dict[str, Path]:
    """The networks' files that belong to a state; those that are to be ignored keep what they started from."""
    folder = CheckpointFolder(Path(path).parent.parent)
    wanted = [letter for letter in letters if f"network_{letter}" not in ignored]
    models = {letter: folder.model_path(letter, state["iter"]) for letter in wanted}
    missing = [str(file) for file in models.values() if not file.is_file()]
    if missing:
        raise CheckpointError(f"{path} cannot be resumed: {', '.join(missing)} is missing.")
    return models


def _load_optimizer(optimizer: Optimizer, saved: dict[str, Any]) -> None:
    """The moments come from the file, the options (rates, betas, decay, kernels) from the option file.

    Some optimizers keep numbers of their own among the options, such as the step size that Prodigy estimates.
    """
    arguments = {*inspect.signature(type(optimizer)).parameters, "initial_lr"} - {"params"}
    options = [
        {key: value for key, value in group.items() if key in arguments or isinstance(value, (bool, str))}
        for group in optimizer.param_groups
    ]
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    moments = {  # of each parameter by its number; a few optimizers keep something for all of them under a name
        key: {name: _fitted(value, parameters[key]) for name, value in state.items()} if isinstance(key, int) else state
        for key, state in saved["state"].items()
        if not isinstance(key, int) or key < len(parameters)
    }
    try:
        optimizer.load_state_dict({**saved, "state": moments})
    except (ValueError, KeyError) as error:
        raise TrainingError(f"the optimizer in the state to resume from belongs to another network: {error}") from error
    for group, chosen in zip(optimizer.param_groups, options, strict=True):
        _say_changes({key: group[key] for key in chosen if key in group and key not in _NOT_CHOSEN}, chosen)
        group.update(chosen)


def _is_foreign(optimizer: Optimizer, saved: Mapping[str, Any]) -> bool:
    """Whether a state that does not name its optimizer, one of torch's, has options that `optimizer` lacks."""
    groups = zip(optimizer.param_groups, saved["param_groups"], strict=False)
    return any(set(theirs) - {*ours, "initial_lr"} for ours, theirs in groups)


def _fits(optimizer: Optimizer, saved: Mapping[str, Any], letter: str, *, ignored: bool) -> bool:
    """Whether moments are of the network `letter`.

    Args:
        optimizer: of the network.
        saved: its part of a state.
        letter: of the network.
        ignored: whether the network is not taken from the checkpoint; then others are no mistake.

    Raises:
        TrainingError: the moments are those of another network.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    other = [
        f"number {number}: {tuple(value.shape)}, wanted {tuple(parameters[number].shape)}"
        for number, moments in saved["state"].items()
        if isinstance(number, int) and number < len(parameters)
        for value in list(moments.values())[:3]
        if isinstance(value, Tensor) and value.ndim and _is_other(value, parameters[number])
    ]
    if not other:
        return True
    if ignored:
        log.warning("network_%s was ignored, and its moments have other sizes: it starts without them", letter)
        return False
    raise TrainingError(
        f"the state to resume from belongs to another network_{letter}: of its moments, {'; '.join(other[:4])}"
        f"{' ...' if len(other) > 4 else ''}. Start afresh, with path.pretrain_network_{letter} if its weights help."
    )


def _is_other(moment: Tensor, parameter: Tensor) -> bool:
    """Whether a moment has another number of values on each side of a matrix, whichever way an optimizer folds it."""
    return moment.ndim == parameter.ndim and moment.shape != parameter.shape


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
        if key in now and value != now[key]:
            log.warning("%s was %s at the checkpoint; the option file's %s applies from here on", key, value, now[key])


_ALIKE = ({"Adam", "AdamW"},)  # which have the same moments
_NOT_CHOSEN = {"lr", "fused", "foreach", "initial_lr", "last_epoch", "_step_count", "_last_lr"}
