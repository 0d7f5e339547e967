"""Validation of quality models during training: how well their scores agree with opinions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset

from restore.data.loading import collate, to_float
from restore.metrics.correlation import correlations
from restore.training.trainer import Trainer
from restore.training.validation import Validation

__all__ = ["CORRELATIONS", "QualityValidation", "judge_dataset"]

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

    def _measure(self, trainer: Trainer, dataset: Dataset) -> dict[str, float]:
        """The correlations over a dataset, its images shared among the processes."""
        processes = trainer.processes
        mine = range(processes.rank, len(dataset), processes.world_size)
        pairs = judge_dataset(self.network, dataset, mine)
        everywhere = [pair for part in processes.gather(pairs) for pair in part]
        scores, opinions = zip(*everywhere, strict=True)
        return correlations(scores, opinions)


def judge_dataset(network: nn.Module, dataset: Dataset, indices: Any = None) -> list[tuple[float, float]]:
    """The score, brought to the scale of opinions, and the opinion of each image of a dataset.

    Args:
        network: a quality model.
        dataset: gives `image`, `opinion` and perhaps `reference`.
        indices: which of its images; None for all.
    """
    device = next(network.parameters()).device
    worst, best = network.score_range
    pairs = []
    for index in range(len(dataset)) if indices is None else indices:
        sample = dataset[index]
        pictures = {key: sample[key] for key in ("image", "reference") if key in sample}
        batch = to_float(collate([pictures]), device)
        with torch.no_grad():
            score = network.judge(batch["image"], batch.get("reference")).item()
        pairs.append(((score - worst) / (best - worst), float(sample["opinion"])))
    return pairs
