"""Datasets of an option file, by one rule for trainings, validations, tests and checks."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from restore.assembly.networks import given_by, seen_by, shape_of_network
from restore.data.fields import described
from restore.errors import OptionsError, Problem
from restore.registry import DATASETS

if TYPE_CHECKING:
    from restore.networks import Network
    from restore.options import Options

__all__ = ["build_dataset", "evaluation_sets"]


def build_dataset(options: Options, key: str, network: Network | None) -> Any:
    """The dataset under `key`.

    It is told its name and its scale if it takes them. Images are grey for a network of one channel unless the option
    file says otherwise. A dataset that is for one task of a network has the scale of that task.

    Args:
        options: the option file.
        key: `train`, `val`, `test_1`, ...
        network: the network that will see it; None where that is not known yet.

    Raises:
        OptionsError: the block has mistakes, no task has the name that is given, or no model of this kind is tested on
            such samples.
        DataError: files or folders are missing, or do not belong together.
    """
    dataset, path = options.datasets[key], f"datasets.{key}"
    block, scale = dict(dataset.block), dataset.scale
    arguments = inspect.signature(DATASETS.get(dataset.type, f"{path}.type")).parameters
    if network is not None:
        spec = network.spec if dataset.phase == "train" else seen_by(options, key, network).spec
        if spec.in_channels == 1 and "color" in arguments:
            block.setdefault("color", "grey")
        if dataset.task is not None:
            scale = spec.scale
    supplied = {"name": dataset.name, "scale": scale}
    supplied = {argument: value for argument, value in supplied.items() if argument in arguments}
    built = DATASETS.build(block, path=path, **supplied)
    if dataset.phase != "train":
        _require_use(options, key, built)
    return built


def evaluation_sets(options: Options) -> list[Any]:
    """What a model is tested on: the datasets of the phases test and val, in the order of their keys.

    Raises:
        OptionsError: there are none, or a block has mistakes.
        DataError: files or folders are missing, or do not belong together.
    """
    keys = sorted(dataset.key for dataset in options.phases("test", "val"))
    if not keys:
        raise OptionsError(
            [Problem("datasets", "there is nothing to test on: give a dataset whose key begins with test.")]
        )
    network = shape_of_network(options)
    return [build_dataset(options, key, network) for key in keys]


def _require_use(options: Options, key: str, dataset: Any) -> None:
    """Refuse what a model of this kind cannot be tested on, before anything is run."""
    given = getattr(dataset, "fields", None)
    if given is None:  # it does not say
        return
    fits, wanted = {
        "images": (bool({"lq", "gt"} & set(given)), "images to restore, as PairedImageDataset gives them"),
        "opinions": ({"image", "opinion"} <= set(given), "images with opinions, as QualityDataset gives them"),
        "boxes": ({"image", "boxes"} <= set(given), "images with boxes, as DefectDataset gives them"),
    }[given_by(options)]
    if not fits or "task" in given:
        kind = options.datasets[key].type
        message = f"{options.model_type} is tested on {wanted}; {kind} gives {described(given)}."
        raise OptionsError([Problem(f"datasets.{key}.type", message)])
