"""What happens to a batch on the device before the networks see it: degrading, blending, sharpening."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch

from restore.data.fields import Fields
from restore.data.loading import Batch

__all__ = ["Preparation"]


class Preparation(ABC):
    """One step between the loader and the networks. What it remembers from batch to batch survives a restart.

    Attributes:
        needs: the fields that it reads in a batch (see `restore.data.fields`).
        keeps_others: whether fields that it does not make are still there afterwards.
        gives: the fields that it makes.
    """

    needs: Fields = {}  # noqa: RUF012 - replaced, never changed
    gives: Fields = {}  # noqa: RUF012
    keeps_others: bool = True

    @abstractmethod
    def __call__(self, batch: Batch) -> Batch:
        """The changed batch."""

    def state_dict(self) -> dict[str, Any]:
        """What later batches depend on: plain values and tensors."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any], device: torch.device) -> None:  # noqa: B027 - most remember nothing
        """Take back what `state_dict` gave, its tensors to `device`."""
