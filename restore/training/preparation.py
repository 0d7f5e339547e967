"""What happens to a batch on the device before the networks see it: degrading, blending, sharpening."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from restore.data.loading import Batch

__all__ = ["Preparation"]


class Preparation:
    """One step between the loader and the networks. What it remembers from batch to batch survives a restart."""

    def __call__(self, batch: Batch) -> Batch:
        """The changed batch."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        """What later batches depend on: plain values and tensors."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Take back what `state_dict` gave, its tensors to `device`."""
