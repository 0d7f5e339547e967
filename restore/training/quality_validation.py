"""Validation of quality models during training: how well their scores agree with opinions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn
from torch.utils.data import Dataset

from restore.inference.judging import judgements
from restore.metrics.correlation import correlations
from restore.training.trainer import Trainer
from restore.training.validation import Validation

__all__ = ["CORRELATIONS", "QualityValidation"]

CORRELATIONS = ("srcc", "plcc", "krcc", "rmse")


class QualityValidation(Validation):
    """Every `every` iterations: judge every image of every dataset and report SRCC, PLCC, KRCC and RMSE, all raw.

    Args:
        network: the quality model to be validated.
        datasets: datasets of whole images by name.
        every: iterations between validations.
        options: further arguments of `Validation`.
    """

    def __init__(self, network: nn.Module, datasets: Mapping[str, Dataset], every: int, **options: Any):
        super().__init__(
            None, datasets, dict.fromkeys(CORRELATIONS), every, lower_is_better=("rmse",), images=None, **options
        )
        self.network = network

    def _measure(self, trainer: Trainer, name: str) -> dict[str, float] | None:
        """The correlations over dataset `name`, its images shared among the processes; None if stopped."""
        dataset = self.datasets[name]
        judged = [(each.score, each.opinion) for each in judgements(self.network, dataset, self._mine(trainer, name))]
        everywhere = [pair for part in trainer.processes.gather(judged) for pair in part]
        if len(everywhere) < len(dataset):
            return None
        scores, opinions = zip(*everywhere, strict=True)
        return correlations(scores, opinions)
