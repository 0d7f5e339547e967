"""Several tasks in one training: a dataset for each, and one of them for every batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from torch.utils.data import Dataset

from restore.data.fields import Fields, described
from restore.data.inner import inner_dataset
from restore.data.sampling import Draw, generator
from restore.errors import DataError
from restore.registry import DATASETS, DatasetOption

__all__ = ["MultiTaskDataset"]

_TASKS = 2**62
_IMAGES = 2**62 + 2**61
"""Where the streams that draw tasks and images begin, beyond every position of a sample."""


@DATASETS.add()
class MultiTaskDataset(Dataset):
    """A dataset for each task of a network; all samples of a batch, over all processes, are of one task.

    Which task that is follows from the seed of the run and the number of the batch alone, so a resumed run goes on with
    the same ones. An image comes as often as every other one of its task, however many the other tasks have.

    Args:
        tasks: a block for each task, by its name: `{type: DownsampledImageDataset, scale: 2, ...}`. Names are those of
            the network's tasks, or the network's tasks are taken in this order.
        sampling: "drawn", a task at random for each batch (as IPT is pre-trained); "in_turn", one after the other: with
            as many for `train.accumulate` as there are tasks, every step learns from all of them (as EDT is).
        weights: how often each task is drawn, in their order; by default equally often.
        name: name of the dataset, for messages.
        scale: of tasks that do not give their own.
        color: channels of tasks that do not give their own.

    Attributes:
        fields: those of the tasks' datasets, and `task`.

    Raises:
        OptionsError: with every mistake in the block of a task.
        DataError: no task, weights that do not belong to them, or tasks whose samples hold different fields.
    """

    def __init__(
        self,
        tasks: dict[str, DatasetOption],
        sampling: Literal["drawn", "in_turn"] = "drawn",
        weights: Sequence[float] | None = None,
        *,
        name: str = "train",
        scale: int = 1,
        color: Literal["rgb", "y", "grey"] | None = None,
    ):
        shares = np.asarray([1.0] * len(tasks) if weights is None else weights, np.float64)
        if not tasks:
            raise DataError(f"dataset '{name}': it has no tasks.")
        if len(shares) != len(tasks) or (shares < 0).any() or not shares.sum() > 0:
            raise DataError(f"dataset '{name}': weights are {weights}; give one share for each of {list(tasks)}.")
        if sampling == "in_turn" and weights is not None:
            raise DataError(f"dataset '{name}': tasks that come in turn have no weights.")
        self.name = name
        self.sampling = sampling
        self.datasets = {
            task: inner_dataset(block, f"tasks.{task}", {"name": f"{name}/{task}"}, {"scale": scale, "color": color})
            for task, block in tasks.items()
        }
        self.fields: Fields = {**self._common_fields(), "task": "text"}
        self._names = list(tasks)
        self._shares = shares / shares.sum()

    def __len__(self) -> int:
        return max(map(len, self.datasets.values()))

    def __getitem__(self, draw: Draw) -> dict[str, Any]:
        task = self.task_of(draw)
        dataset, index = self.datasets[task], draw.index
        if index >= len(dataset):  # a smaller dataset than the largest: any of its images
            index = int(generator(draw.seed, _IMAGES + draw.position).integers(len(dataset)))
        return {**dataset[draw._replace(index=index)], "task": task}

    def _common_fields(self) -> Fields:
        """The fields that a sample of every task has."""
        (first, dataset), *others = self.datasets.items()
        for task, other in others:
            if dict(other.fields) != dict(dataset.fields):
                raise DataError(
                    f"dataset '{self.name}': task {first} gives {described(dataset.fields)}, and task {task} gives "
                    f"{described(other.fields)}. All tasks must give the same fields."
                )
        return dataset.fields

    def task_of(self, draw: Draw) -> str:
        """The task of the batch that a sample belongs to."""
        if self.sampling == "in_turn":
            return self._names[draw.batch % len(self._names)]
        return self._names[generator(draw.seed, _TASKS + draw.batch).choice(len(self._names), p=self._shares)]
