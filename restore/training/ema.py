"""The exponential moving average of a network's weights: what is validated, saved and shipped."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

__all__ = ["Ema"]


class Ema:
    """A second network that follows the first: parameters averaged, buffers copied, one fused update per step.

    Args:
        network: the network that is trained.
        decay: weight of the past in each update.
        warmup: let the average follow quickly at first: the decay of update t is min(decay, (1 + t) / (10 + t)).

    Attributes:
        network: the average, in evaluation mode and without gradients.
        num_updates: updates so far.
    """

    def __init__(self, network: nn.Module, decay: float, *, warmup: bool = False):
        if not 0 <= decay < 1:
            raise ValueError(f"ema_decay must be in [0, 1), not {decay}")
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.decay = decay
        self.warmup = warmup
        self.num_updates = 0
        self._averaged, self._followed = _pairs(self.network.parameters(), network.parameters())
        self._copies, self._buffers = _pairs(self.network.buffers(), network.buffers())

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the network; call it once after every optimizer step."""
        decay = min(self.decay, (1 + self.num_updates) / (10 + self.num_updates)) if self.warmup else self.decay
        self.num_updates += 1
        torch._foreach_lerp_(self._averaged, self._followed, 1 - decay)
        if self._buffers:
            torch._foreach_copy_(self._copies, self._buffers)


def _pairs(average, followed) -> tuple[list[Tensor], list[Tensor]]:
    return [tensor.detach() for tensor in average], [tensor.detach() for tensor in followed]
