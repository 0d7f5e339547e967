"""What the training loop asks of a kind of learning."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from restore.data.loading import Batch

__all__ = ["Objective"]


class Objective(nn.Module):
    """Turns batches into losses. Subclasses say which networks learn, in which turns, from what.

    Attributes:
        networks: the networks that learn, by the letter that BasicSR's options and files use (`g`, `d`). The first is
            the one that is averaged, validated and shipped.
    """

    def __init__(self, networks: dict[str, nn.Module]):
        super().__init__()
        self.networks = nn.ModuleDict(networks)

    def turns(self, iteration: int) -> Sequence[str]:
        """Which networks learn in iteration `iteration` (counted from 1), in order."""
        return list(self.networks)

    def prepare(self, batch: Batch) -> Batch:
        """Change a batch on the device before the turns: degrade it, mix it. By default as it is."""
        return batch

    def losses(self, batch: Batch, turn: str) -> dict[str, Tensor]:
        """Scalars for network `turn`: those named `l_...` are summed and minimised, the others are only logged."""
        raise NotImplementedError
