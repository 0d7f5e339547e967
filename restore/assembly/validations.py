"""What a training is validated on, and by what measure."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from restore.assembly.datasets import build_dataset
from restore.assembly.metrics import metrics_of
from restore.assembly.networks import blocks_by_letter, given_by, seen_by
from restore.errors import OptionsError, Problem
from restore.inference import Restorer
from restore.training.detection_validation import DetectionValidation
from restore.training.patches import Patches
from restore.training.quality_validation import QualityValidation
from restore.training.saving import save_best
from restore.training.validation import Validation, check_samples

if TYPE_CHECKING:
    from restore.networks import Network
    from restore.options import Options
    from restore.training.checkpoints import CheckpointFolder
    from restore.training.progress import Scalars

__all__ = ["validation_of", "validation_sets"]

FEWEST_RATED = 3


def validation_sets(options: Options, network: Network) -> dict[str, Any]:
    """The datasets to validate on, by key; none if the options want no validation.

    Raises:
        DataError: a dataset cannot be read, or lacks what the metrics need.
    """
    if not options.val.val_freq:
        return {}
    keys = [dataset.key for dataset in options.phases("val")]
    sets = {key: build_dataset(options, key, network) for key in keys}
    if given_by(options) == "opinions":
        _require_ranks(sets)
    elif given_by(options) == "images":
        check_samples({options.datasets[key].name: each for key, each in sets.items()}, metrics_of(options))
    return sets


def _require_ranks(sets: Mapping[str, Any]) -> None:
    """Refuse rated images that are too few for a correlation, before the first validation meets them.

    Raises:
        OptionsError: names the datasets.
    """
    few = [(key, len(each)) for key, each in sets.items() if len(each) < FEWEST_RATED]
    if few:
        message = "{} images: correlations with opinions need at least {}. Give more, or val.val_freq: ~."
        raise OptionsError([Problem(f"datasets.{key}", message.format(count, FEWEST_RATED)) for key, count in few])


def validation_of(
    options: Options,
    network: Network,
    sets: Mapping[str, Any],
    folder: CheckpointFolder,
    sinks: list[Scalars],
) -> Validation | None:
    """What validates `network`, the one that is trained or its moving average, on `sets`; None if there are none."""
    if not sets:
        return None
    val, every = options.val, options.val.val_freq
    assert every, "there are sets to validate on only where this is wanted"
    names = {key: options.datasets[key].name for key in sets}
    datasets = {names[key]: each for key, each in sets.items()}
    shared: dict[str, Any] = {
        "best_metric": options.logger.save_best,
        "on_best": functools.partial(save_best, folder, blocks_by_letter(options)),
        "sinks": sinks,
    }
    if given_by(options) == "opinions":
        return QualityValidation(network, datasets, every, **shared)
    if given_by(options) == "boxes":
        return DetectionValidation(network, datasets, every, **shared)
    device = next(network.parameters()).device
    still = {"fold": False, "compile": False, "merge": None}  # it goes on learning: these make copies
    still["channels_last"] = bool(options.runtime.channels_last)  # by default the layout that it is trained in
    runtime = {**options.runtime.arguments(), "device": device, **still}
    metrics = metrics_of(options)
    return Validation(
        {names[key]: Restorer(seen_by(options, key, network), **runtime).measuring() for key in sets},
        datasets,
        metrics,
        every,
        lower_is_better=[name for name, metric in metrics.items() if not metric.traits.higher_is_better],
        images=options.paths.visualization if val.save_img else None,
        patches=Patches(sinks, options.logger.num_patches),
        **shared,
    )
