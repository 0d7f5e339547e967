"""Momentum copies: networks whose weights are an exponential moving average of those of another one.

The average that is validated, saved and shipped (`train.ema_decay`) is one of them; the teachers of self-distillation
and contrastive learning are others (He et al. 2020, arXiv:1911.05722; Grill et al. 2020, arXiv:2006.07733).
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from restore.training.sharding import local

__all__ = ["Follower"]


class Follower(nn.Module):
    """A second network that follows the first: parameters averaged, buffers copied, one fused update per step.

    Args:
        network: the network that is trained. It and its average may be sharded until the first update.
        decay: weight of the past in each update, in [0, 1).
        warmup: let the average follow quickly at first: the decay of update t is min(decay, (1 + t) / (10 + t)).
        power: the same by min(decay, 1 - (1 + t)^-power), as the library ema-pytorch has it; None: not so.

    Attributes:
        network: the average, always in evaluation mode and without gradients.
        followed: the network that is trained; not a sub-module.
        num_updates: updates so far.
    """

    followed: nn.Module

    def __init__(self, network: nn.Module, decay: float, *, warmup: bool = False, power: float | None = None):
        super().__init__()
        if not 0 <= decay < 1:
            raise ValueError(f"the decay of a moving average must be at least 0 and below 1, not {decay}")
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.__dict__["followed"] = network
        self.decay = decay
        self.warmup = warmup
        self.power = power
        self.num_updates = 0

    def train(self, mode: bool = True) -> Follower:
        """Stay in evaluation mode."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, *inputs: Any, **options: Any) -> Any:
        """What the average makes of the inputs, without gradients."""
        return self.network(*inputs, **options)

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the network; call it once after every optimizer step."""
        decay = self._decay()
        self.num_updates += 1
        averaged, parameters, copies, buffers = self._tensors
        torch._foreach_lerp_(averaged, parameters, 1 - decay)
        if buffers:
            torch._foreach_copy_(copies, buffers)

    def _decay(self) -> float:
        """The weight of the past in the next update."""
        decay, done = self.decay, self.num_updates
        if self.warmup:
            decay = min(decay, (1 + done) / (10 + done))
        return decay if self.power is None else min(decay, 1 - (1 + done) ** -self.power)

    @functools.cached_property
    def _tensors(self) -> tuple[list[Tensor], ...]:
        """Parameters of the average and of the network, then their buffers: what an update goes through."""
        pair = self.network, self.followed
        return (*(_local(each.parameters()) for each in pair), *(_local(each.buffers()) for each in pair))


def _local(tensors: Iterable[Tensor]) -> list[Tensor]:
    return [local(tensor).detach() for tensor in tensors]
