"""Validation during training: whole images through the averaged network, measured as the option file says."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from restore.errors import DataError
from restore.files import inside
from restore.images import convert_depth, write_image
from restore.inference import Restorer
from restore.metrics import traits
from restore.training.patches import Patches
from restore.training.progress import Scalars
from restore.training.sharding import unsharded
from restore.training.trainer import Callback, Trainer

__all__ = ["Metric", "Validation", "check_samples"]

log = logging.getLogger(__name__)

Metric = Callable[[np.ndarray, np.ndarray], float]
BestSaved = Callable[[Trainer], None]


class Validation(Callback):
    """Every `every` iterations: restore every image of every dataset, report metrics, note the best.

    Args:
        restorer: runs the network to be validated; or one for each dataset by name, where these are for several tasks.
        datasets: whole-image datasets by name.
        metrics: functions of (restored, reference) as uint8 (H, W, C), by name.
        every: iterations between validations.
        lower_is_better: the names of metrics of which less is better.
        best_metric: which metric, on the first dataset, decides what is best.
        on_best: called in every process when the network is better than ever.
        sinks: called with all scalars and the iteration; the list may grow later.
        images: folder in which restored images are written, or None.
        patches: shows parts of the images, or None.
    """

    def __init__(
        self,
        restorer: Restorer | Mapping[str, Restorer],
        datasets: Mapping[str, Dataset],
        metrics: Mapping[str, Metric],
        every: int,
        *,
        lower_is_better: Sequence[str] = (),
        best_metric: str | None = None,
        on_best: BestSaved | None = None,
        sinks: Sequence[Scalars] = (),
        images: Path | None = None,
        patches: Patches | None = None,
    ):
        self.datasets = dict(datasets)
        self.restorers = restorer if isinstance(restorer, Mapping) else dict.fromkeys(self.datasets, restorer)
        self.metrics = dict(metrics)
        self.every = every
        self.lower_is_better = set(lower_is_better)
        self.best_metric = best_metric or next(iter(self.metrics), None)
        self.on_best = on_best
        self.sinks = sinks
        self.images = images
        self.patches = patches
        self.best: dict[str, list[float]] = {}  # "dataset/metric": [value, iteration]
        self.unfinished = False  # a signal or an error ended the last validation

    def after_iteration(self, trainer: Trainer) -> None:
        """Validate if it is time."""
        if not (trainer.due(self.every) or (trainer.iteration >= trainer.plan.total_iter)):
            return
        with trainer.clock.paused():
            try:
                self.validate(trainer)
            except Exception:  # an image that cannot be read, a full disk, too little memory
                self.unfinished = True
                trainer.keep_what_was_learnt()
                raise

    def go_on(self, trainer: Trainer) -> None:
        """Make up for a validation that a signal or an error ended."""
        if self.unfinished:
            self.validate(trainer)

    def validate(self, trainer: Trainer) -> dict[str, float]:
        """Validate now; returns the mean of every metric as `dataset/metric`.

        A signal that asks to stop ends it: nothing is returned or noted, and the run that is resumed starts with it.
        """
        means: dict[str, float] = {}
        with unsharded(trainer.network):
            for name in self.datasets:
                measured = self._measure(trainer, name)
                self.unfinished = measured is None
                if measured is None:
                    trainer.interrupted = trainer.processes.any(trainer.stop_requested)
                    log.warning("iter %s  validation left out; a resumed run begins with it", f"{trainer.iteration:,}")
                    return {}
                means |= {f"{name}/{metric}": value for metric, value in measured.items()}
        improved = self._note_best(means, trainer.iteration)
        for key, value in means.items():
            best, at = self.best[key]
            log.info("iter %s  %s %.4f  (best %.4f at %s)", f"{trainer.iteration:,}", key, value, best, f"{at:,}")
        for sink in self.sinks:
            sink({f"metrics/{key}": value for key, value in means.items()}, trainer.iteration)
        decisive = f"{next(iter(self.datasets))}/{self.best_metric}"
        if self.on_best and decisive in improved:
            self.on_best(trainer)
        return means

    def state_dict(self) -> dict[str, Any]:
        """The best values so far, and whether the last validation is still to be done."""
        return {"best": self.best, "unfinished": self.unfinished}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.best = {key: list(value) for key, value in state.get("best", {}).items()}
        self.unfinished = state.get("unfinished", False)

    def _measure(self, trainer: Trainer, name: str) -> dict[str, float] | None:
        """The mean of every metric over dataset `name`, its images shared among the processes; None if stopped."""
        processes, dataset, restorer = trainer.processes, self.datasets[name], self.restorers[name]
        values: dict[int, list[float]] = {}
        for index in self._mine(trainer, name):
            sample = dataset[index]
            restored = restorer(sample["lq"])
            gt = sample.get("gt")
            if restored.dtype == np.float32:  # noisy inputs are floats
                restored = convert_depth(restored, np.uint8 if gt is None else gt.dtype).reshape(restored.shape)
            values[index] = [float(function(restored, gt)) for function in self.metrics.values()]
            stem = Path(sample["lq_path"]).stem
            if self.patches:
                place = f"images/{name}/{stem}"
                self.patches(place, index // processes.world_size, sample["lq"], restored, gt, trainer.iteration)
            if self.images:
                write_image(inside(self.images, stem, f"{stem}_{trainer.iteration}.png"), restored)
        everywhere = {index: row for part in processes.gather(values) for index, row in part.items()}
        if len(everywhere) < len(dataset):
            return None
        columns = zip(*(everywhere[index] for index in sorted(everywhere)), strict=True)
        return {name: sum(column) / len(dataset) for name, column in zip(self.metrics, columns, strict=True)}

    def _mine(self, trainer: Trainer, name: str) -> Iterator[int]:
        """The numbers of the images of dataset `name` that this process measures, until it is asked to stop."""
        processes = trainer.processes
        every = range(processes.rank, len(self.datasets[name]), processes.world_size)
        return itertools.takewhile(lambda _: not (trainer.interrupted or trainer.stop_requested), every)

    def _note_best(self, means: Mapping[str, float], iteration: int) -> set[str]:
        improved = set()
        for key, value in means.items():
            sign = -1 if key.rpartition("/")[2] in self.lower_is_better else 1
            if key not in self.best or sign * value > sign * self.best[key][0]:
                self.best[key] = [value, iteration]
                improved.add(key)
        return improved


def check_samples(datasets: Mapping[str, Dataset], metrics: Mapping[str, Metric]) -> None:
    """Look at one sample of each dataset, so that what a validation lacks is said before the training.

    Raises:
        DataError: there are no degraded images, or no references although a metric compares with them.
    """
    comparing = [name for name, function in metrics.items() if traits(function).needs_reference]
    for name, dataset in datasets.items():
        sample = dataset[0]
        if "lq" not in sample:
            raise DataError(
                f"dataset '{name}': it has no degraded images to validate on. Take a PairedImageDataset, or a "
                "DegradedImageDataset, which makes them by a recipe."
            )
        if comparing and "gt" not in sample:
            raise DataError(f"dataset '{name}': it has no references to compare with for {', '.join(comparing)}.")
