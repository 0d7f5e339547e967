"""Validation of detectors during training: the average precision of what they find."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn
from torch.utils.data import Dataset

from restore.inference.finding import found_and_wanted
from restore.metrics.detection import mean_average_precision
from restore.training.trainer import Trainer
from restore.training.validation import Validation

__all__ = ["DetectionValidation"]


class DetectionValidation(Validation):
    """Every `every` iterations: find boxes in every image of every dataset and report their AP50.

    Args:
        network: the detector to be validated.
        datasets: datasets of whole images with boxes, by name.
        every: iterations between validations.
        options: further arguments of `Validation`.
    """

    def __init__(self, network: nn.Module, datasets: Mapping[str, Dataset], every: int, **options: Any):
        kinds = [f"ap50_{kind}" for kind in network.kinds]
        super().__init__(None, datasets, dict.fromkeys(("ap50", *kinds)), every, images=None, **options)
        self.network = network

    def _measure(self, trainer: Trainer, name: str) -> dict[str, float] | None:
        """AP50 of dataset `name`, of all kinds and of each; the processes share its images. None if stopped."""
        dataset = self.datasets[name]
        found = list(found_and_wanted(self.network, dataset, self._mine(trainer, name)))
        everywhere = [pair for part in trainer.processes.gather(found) for pair in part]
        if len(everywhere) < len(dataset):
            return None
        mean, of_kinds = mean_average_precision(everywhere, self.network.kinds)
        return {"ap50": mean, **{f"ap50_{kind}": value for kind, value in of_kinds.items()}}
