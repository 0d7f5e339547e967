"""What a search is told by its option file: among what it chooses, what it trains, and how it compares."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from restore.assembly.metrics import metrics_of
from restore.assembly.networks import chosen_device
from restore.assembly.trainings import options_in
from restore.assembly.validations import validation_sets
from restore.errors import DataError, OptionsError, Problem
from restore.evaluation.searches import Comparison
from restore.networks import Network
from restore.networks.elastic import Space
from restore.options import Options, load
from restore.options.schema.search import SearchOptions
from restore.registry import OBJECTIVES
from restore.training.objectives.restoration import Restoration
from restore.zoo.load import load_network

__all__ = ["comparison_of", "read_search", "supernet_of", "training_options", "weights_of_training"]


def read_search(file: str | Path, overrides: Sequence[Any] = ()) -> tuple[Options, SearchOptions, Space]:
    """The options of a search, how it looks and among what.

    Raises:
        OptionsError: they are not of a training of restoration, or do not say what to choose from.
    """
    options = load(file, overrides, is_train=True)
    problems = []
    if not issubclass(OBJECTIVES.get(options.model_type), Restoration):  # type: ignore[arg-type]
        message = (
            f"{options.model_type} does not learn to restore from references: a search is for SRModel and its kind."
        )
        problems.append(Problem("model_type", message))
    if options.search is None:
        message = "missing: what to choose from, such as {space: {embed_dim: [24, 48], depths: [1, 2]}}."
        problems.append(Problem("search", message))
    if not options.val.metrics or not list(options.phases("val")):
        message = "missing: networks are compared by the first metric of val.metrics on the dataset val."
        problems.append(Problem("datasets.val", message))
    if problems:
        raise OptionsError(problems)
    assert options.search is not None
    assert options.network_g is not None
    space = Space(options.network_g, options.search.space)
    if options.search.means == "paths" and set(options.search.space) != {"mixers"}:
        message = "means: paths prunes mixers alone: list these, and leave all else to network_g."
        raise OptionsError([Problem("search.space", message)])
    return options, options.search, space


def training_options(file: str | Path, overrides: Sequence[Any], output: Path, iterations: int | None) -> Options:
    """The options of the training with which a search begins."""
    options, how, space = read_search(file, overrides)
    if how.means == "paths":
        network, kind = space.block_of_paths(), "PathsModel"
    else:
        network = {"type": "Supernet", "network": options.network_g, "space": how.space}
        kind = "SupernetModel"
    own = [f"network_g={json.dumps(network)}", f"model_type={kind}"]
    return options_in(output.absolute() / "training", file, [*overrides, *own], iterations)


def supernet_of(training: Options) -> Any:
    """The network that a search has trained."""
    return load_network(weights_of_training(training)).to(chosen_device(training))


def weights_of_training(training: Options) -> Path:
    """Where the training with which a search begins leaves its weights."""
    return training.paths.experiments_root / "models" / "net_g_latest.pth"


def comparison_of(options: Options, network: Network) -> tuple[str, Comparison]:
    """The measure that networks are compared by, and what compares them on the first dataset of the phase val.

    Args:
        options: of the option file.
        network: one that restores such images.

    Raises:
        DataError: there is no such dataset, or it lacks what the metric needs.
    """
    assert options.search is not None
    name, metric = next(iter(metrics_of(options).items()))
    sets = validation_sets(options, network)
    if not sets:
        raise DataError("val.val_freq is off, so there is nothing to compare networks on: give it a value.")
    runtime = {**options.runtime.arguments(), "device": chosen_device(options)}
    still = {"fold": False, "compile": False, "merge": None}
    comparison = Comparison(
        next(iter(sets.values())),
        metric,
        higher_is_better=metric.traits.higher_is_better,
        scale=options.scale,
        crop_px=options.search.crop_px,
        max_images=options.search.max_images,
        runtime={**runtime, **still},
    )
    return name, comparison
