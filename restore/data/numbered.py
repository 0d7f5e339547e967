"""Training data whose samples come with their own number."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

from torch.utils.data import Dataset

from restore.data.fields import Fields
from restore.data.sampling import Draw

__all__ = ["NumberedDataset"]


class NumberedDataset(Dataset):
    """A dataset whose samples say which of its images they show.

    Args:
        dataset: the images.

    Attributes:
        fields: those of the dataset, and `instance`, its number.
        groups: those of the dataset, or None.
    """

    def __init__(self, dataset: Any):
        self.dataset = dataset
        self.fields: Fields = {**dataset.fields, "instance": "number"}
        self.groups: Sequence[Hashable] | None = getattr(dataset, "groups", None)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, draw: Draw) -> dict[str, Any]:
        return {**self.dataset[draw], "instance": draw.index}
