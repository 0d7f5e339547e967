"""Networks of an option file, and the one rule by which they get their weights.

`path.pretrain_network_g` names a file, or a model of the zoo whose weights are shipped or downloaded; the same holds
for every other network, in tests, trainings, evaluations of quality models and submissions.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch

from restore.encoders.timm.weights import without_pretrained
from restore.errors import CheckpointError, MissingError, OptionsError, Problem
from restore.inference.precision import resolve_device
from restore.networks import Network
from restore.networks.branches import Branch, branch_weights
from restore.networks.checkpoint import fits_into, load_weights, read_state_dict
from restore.options.components import slot_of
from restore.quality import load_quality
from restore.registry import OBJECTIVES, Registry
from restore.training.objectives.multitask import validated_task
from restore.zoo.load import load_network, weights_file

if TYPE_CHECKING:
    from torch import nn

    from restore.options import Options
    from restore.training.objectives import Objective

__all__ = [
    "as_network",
    "blocks_by_letter",
    "build_network",
    "chosen_device",
    "given_by",
    "objective_of",
    "seen_by",
    "shape_of_network",
    "teachers",
]

log = logging.getLogger(__name__)


def objective_of(options: Options) -> type[Objective]:
    """The kind of learning that an option file names."""
    return cast("type[Objective]", OBJECTIVES.get(options.model_type, "model_type"))


def given_by(options: Options) -> str:
    """What the networks of an option file make of images: "images", "opinions" or "boxes"; see `Objective.gives`."""
    return objective_of(options).gives


def as_network(network: nn.Module) -> Network:
    """`network_g` as what everything else takes it for.

    Raises:
        OptionsError: it does not say what images it takes.
    """
    if not isinstance(network, Network):
        kind = type(network).__name__
        message = f"{kind} does not say what images it takes: derive it from restore.networks.Network."
        raise OptionsError([Problem("network_g.type", message)])
    return network


def build_network(options: Options, key: str = "network_g") -> nn.Module:
    """The network that stands under `key`, with the weights of `path.pretrain_network_*` where these are named.

    Raises:
        OptionsError: the block has mistakes, or no model or task has the name that is given.
        CheckpointError: the weights cannot be read, or belong to another network.
        MissingError: the weights cannot be downloaded.
    """
    network = _registry(options, key).build(options.networks[key], path=key)
    source, entry, strict = options.path.pretrained(key)
    if source is None:
        return network
    path = named_weights(source, f"path.pretrain_{key}")
    task = options.path.pretrain_task_g if key == "network_g" else None
    state = read_state_dict(path, entry, fits_into(network) if task is None else None)
    if task is not None:
        state = branch_weights(state, task, source=str(path))
    skipped = load_weights(network, state, source=str(path), strict=strict)
    log.info("%s starts from %s", key, path)
    if skipped:
        log.warning("%s: %d tensors do not fit and are left out: %s", path, len(skipped), ", ".join(skipped))
    return network


def named_weights(source: str, option: str) -> Path:
    """The weights file that an option names; what is wrong with it is told of the option.

    Raises:
        OptionsError: no model has the name that is given.
        CheckpointError: there is no such file.
        MissingError: the weights cannot be downloaded.
    """
    try:
        return weights_file(source)
    except OptionsError as error:
        raise OptionsError([Problem(option, str(error))]) from None
    except (CheckpointError, MissingError) as error:
        raise type(error)(f"{option}: {error}") from None


def teachers(options: Options) -> dict[str, nn.Module]:
    """The frozen networks that an option file names for its kind of learning, with their weights, by their roles.

    Raises:
        OptionsError: no model has the name that is given.
        CheckpointError: the weights cannot be read, or do not say what they are of.
        MissingError: the weights cannot be downloaded.
    """
    named = objective_of(options).teachers(options)
    if given_by(options) == "opinions":
        return {role: load_quality(named_weights(name, "train.teacher.model")) for role, name in named.items()}
    return {role: load_network(named_weights(name, "train.teacher.model")) for role, name in named.items()}


def shape_of_network(options: Options) -> Network | None:
    """`network_g` without its weights, for its `spec` and its tasks; None where only the weights tell what it is.

    Nothing is downloaded, and where the network allows it, no values are computed.

    Raises:
        OptionsError: the block has mistakes.
    """
    if options.network_g is None:
        return None
    registry, block = _registry(options, "network_g"), options.network_g
    with without_pretrained():
        try:
            with torch.device("meta"):
                return as_network(registry.build(block, path="network_g"))
        except (NotImplementedError, RuntimeError):  # it looks at values, which meta tensors have none of
            return as_network(registry.build(block, path="network_g"))


def seen_by(options: Options, key: str, network: Network) -> Network:
    """The network as the dataset under `key` sees it: of several tasks, the one that the dataset is for.

    Raises:
        OptionsError: the network has several tasks and the dataset names none, or one that does not exist.
    """
    task = validated_task(network, options, key)
    return network if task is None else Branch(network, task)


def blocks_by_letter(options: Options) -> dict[str, dict[str, Any]]:
    """The option block of each network by the letter that its file has, as a copy of it stands in that file."""
    return {key.removeprefix("network_"): block for key, block in options.networks.items()}


def chosen_device(options: Options) -> torch.device:
    """Where an option file computes: what `runtime.device` names, or where it is auto, what `num_gpu` allows.

    Raises:
        OptionsError: there is no such device.
    """
    device = options.runtime.device
    return resolve_device("cpu" if device == "auto" and options.num_gpu == 0 else device)


def _registry(options: Options, key: str) -> Registry:
    """Where the type of the network under `key` is looked up: the same registry that its block was checked by."""
    slot = slot_of(key, options.model_type)
    assert slot is not None, f"{key} is the place of a network"
    return slot.registry
