"""The exponential moving average of a network's weights: what is validated, saved and shipped."""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from restore.training.sharding import local

__all__ = ["Ema"]


class Ema:
    """A second network that follows the first: parameters averaged, buffers copied, one fused update per step.

    Args:
        network: the network that is trained. It and its average may be sharded until the first update.
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
        self.followed = network
        self.decay = decay
        self.warmup = warmup
        self.num_updates = 0

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the network; call it once after every optimizer step."""
        decay = min(self.decay, (1 + self.num_updates) / (10 + self.num_updates)) if self.warmup else self.decay
        self.num_updates += 1
        averaged, parameters, copies, buffers = self._tensors
        torch._foreach_lerp_(averaged, parameters, 1 - decay)
        if buffers:
            torch._foreach_copy_(copies, buffers)

    @functools.cached_property
    def _tensors(self) -> tuple[list[Tensor], ...]:
        """Parameters of the average and of the network, then their buffers: what an update goes through."""
        pair = self.network, self.followed
        return (*(_local(each.parameters()) for each in pair), *(_local(each.buffers()) for each in pair))


def _local(tensors: Iterable[Tensor]) -> list[Tensor]:
    return [local(tensor).detach() for tensor in tensors]
