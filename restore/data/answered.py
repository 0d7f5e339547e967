"""Training data with what a teacher has answered to each sample before, read by the workers that load it."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence
from typing import Any

from torch.utils.data import Dataset

from restore.data.fields import Fields
from restore.data.sampling import Draw
from restore.data.storage.answers import AnswerCache, question_of

__all__ = ["AnsweredDataset"]


class AnsweredDataset(Dataset):
    """A dataset whose samples come with the answers of a cache, or with the question that has none yet.

    Args:
        dataset: what a network is asked about.
        cache: its answers.
        inputs: the fields that the network is given, in order; of those that a sample has.
        parts: what of an answer is needed.

    Attributes:
        fields: those of the dataset, `question` and `answer`, which is a mapping of tensors or None.
        groups: those of the dataset, or None.
    """

    def __init__(self, dataset: Any, cache: AnswerCache, inputs: Sequence[str], parts: Collection[str]):
        self.dataset = dataset
        self.cache = cache
        self.inputs = [field for field in inputs if field in dataset.fields]
        self.parts = sorted(parts)
        self.fields: Fields = {**dataset.fields, "question": "text", "answer": "answer"}
        self.groups: Sequence[Hashable] | None = getattr(dataset, "groups", None)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, draw: Draw) -> dict[str, Any]:
        sample = self.dataset[draw]
        question = question_of([sample[field] for field in self.inputs])
        return {**sample, "question": question, "answer": self.cache.find(question, self.parts)}
