"""Whether a network, its objective and its training data are made for each other, asked before anything is written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from restore.assembly.networks import given_by
from restore.data.fields import Fields, Kind, described
from restore.errors import OptionsError, Problem
from restore.registry import DATASETS
from restore.training.objectives import Objective
from restore.training.preparation import Preparation

if TYPE_CHECKING:
    from restore.networks import Network
    from restore.options import Options

__all__ = ["check_fields", "check_fit"]

_GREY = ("y", "grey", "gray")


def check_fit(options: Options, dataset: Any, network: Network) -> None:
    """Compare scale and channels of the network with those of the training images.

    Networks of several tasks, quality models, detectors, and networks that take neither grey nor RGB are not looked at.

    Args:
        options: the option file.
        dataset: its training data.
        network: its first network.

    Raises:
        OptionsError: training would end in its first iteration; says which options to change.
    """
    if given_by(options) != "images" or network.tasks:
        return
    spec, key = network.spec, type(network).__name__
    problems = []
    if spec.scale != options.scale:
        message = f"{key} as configured enlarges {spec.scale} times, and scale is {options.scale}. Make them equal."
        problems.append(Problem("network_g", message))
    color = getattr(dataset, "color", None)
    channels = 1 if color in _GREY else 3
    if hasattr(dataset, "color") and spec.in_channels in (1, 3) and spec.in_channels != channels:
        wanted = f"leave color out, or give {key} one channel" if channels == 1 else "take color: y or color: grey"
        message = (
            f"'{color or 'rgb'}' gives images of {channels} channel(s), and {key} takes {spec.in_channels}: {wanted}."
        )
        problems.append(Problem("datasets.train.color", message))
    if problems:
        raise OptionsError(problems)


def check_fields(options: Options, objective: Objective, dataset: Any) -> None:
    """Compare the fields that the training data give with those that the objective needs.

    Args:
        options: the option file.
        objective: with its preparations, each of which may make further fields.
        dataset: its training data.

    Raises:
        OptionsError: a field is missing or of another kind; names both sides and the datasets that would do.
    """
    lacking = _lacking(objective, dataset.fields)
    if not lacking:
        return
    block = options.datasets["train"]
    others = [name for name in DATASETS if not _lacking(objective, getattr(DATASETS.get(name), "fields", {}))]
    fitting = f" Datasets that give it: {', '.join(others)}." if others else ""
    message = (
        f"model_type {options.model_type} needs {described(lacking)}; the {block.type} '{block.name}' gives "
        f"{described(dataset.fields)}.{fitting}"
    )
    raise OptionsError([Problem("datasets.train.type", message)])


def _lacking(objective: Objective, given: Fields) -> dict[str, Kind]:
    """The fields that an objective, or what prepares its batches, needs and does not find in a batch of `given`."""
    lacking: dict[str, Kind] = {}
    there = dict(given)
    steps: list[Preparation | Objective] = [*objective.preparations, objective]
    for step in steps:
        lacking |= {name: kind for name, kind in step.needs.items() if there.get(name) != kind}
        if isinstance(step, Preparation):
            there = {**(there if step.keeps_others else {}), **step.gives}
    return lacking
