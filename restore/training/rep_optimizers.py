"""Optimizers under which plain convolutions learn as sums of branches.

RepOptimizer: Ding et al. 2022, arXiv 2205.15242. The sum s conv3x3(x) + t conv1x1(x) + u x, with constants s and t and
a learned u, is one convolution. Its kernel moves as a plain kernel does whose gradient is multiplied by s^2, plus t^2
at the centre, plus 1 on the diagonal of the centre where the number of channels and the size stay (SGD, section 3.2);
under AdamW, the steps are multiplied by |s|, plus |t|, plus 1. With SGD, momentum and weight decay this is exact, with
AdamW up to its `eps`; a clipped gradient breaks it.

`restore.layers.rep_optimized` has the same as a convolution, for networks that search the constants of each channel.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from restore.errors import OptionsError
from restore.registry import OPTIMIZERS

__all__ = ["RepAdamW", "RepOptimizer", "RepSGD", "multiplier"]


class RepOptimizer(Optimizer):
    """What both have in common: they are told of the network after they were made.

    Attributes:
        power: of the constants in the multiplier.
    """

    power: int
    scale_conv: float | None
    scale_1x1: float | None
    multipliers: dict[nn.Parameter, Tensor]

    def learn_as_branches(self, network: nn.Module) -> None:
        """Find the plain convolutions of a network: square odd kernels of 3 and more, one group.

        The constants of each, unless they were given, are those that a search would start from: 1 for the first of a
        row of convolutions with the same channels, sqrt(2 / n) for the one n places behind it.

        Raises:
            OptionsError: there is no such convolution.
        """
        learned = {id(each) for group in self.param_groups for each in group["params"]}
        place, before = 0, (0, 0)
        for module in network.modules():
            if type(module) is not nn.Conv2d or not _is_plain(module) or id(module.weight) not in learned:
                continue
            channels = (module.in_channels, module.out_channels)
            place, before = place + 1 if channels == before else 0, channels
            usual = math.sqrt(2 / place) if place else 1.0
            self.multipliers[module.weight] = multiplier(
                module.weight,
                usual if self.scale_conv is None else self.scale_conv,
                usual if self.scale_1x1 is None else self.scale_1x1,
                identity=channels[0] == channels[1] and set(module.stride) == {1},
                power=self.power,
            )
        if not self.multipliers:
            name = type(self).__name__
            raise OptionsError(
                f"{name} is for plain convolutions of 3x3 and more, and this network has none that learns."
            )


@OPTIMIZERS.add()
class RepSGD(SGD, RepOptimizer):
    """SGD under which plain convolutions learn as sums of branches.

    Args:
        params: the parameters.
        lr: learning rate.
        momentum: share of the step before that is taken again.
        weight_decay: added to the gradient, times the weights; it is not multiplied.
        nesterov: whether momentum is Nesterov's.
        scale_conv: s; None: by the place of a convolution.
        scale_1x1: t; None: the same.
    """

    power = 2

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 0.1,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        scale_conv: float | None = None,
        scale_1x1: float | None = None,
    ):
        super().__init__(params, lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov)
        self.scale_conv, self.scale_1x1, self.multipliers = scale_conv, scale_1x1, {}

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step; gradients of convolutions are multiplied in place."""
        for weight, factor in self.multipliers.items():
            if weight.grad is not None:
                weight.grad.mul_(factor)
        return super().step(closure)


@OPTIMIZERS.add()
class RepAdamW(AdamW, RepOptimizer):
    """AdamW under which plain convolutions learn as sums of branches.

    Args:
        params: the parameters.
        lr: learning rate.
        betas: decay of the two moments.
        eps: added to the root of the second.
        weight_decay: share of the weights, times the rate, that each step takes off; it is not multiplied.
        scale_conv: s; None: by the place of a convolution.
        scale_1x1: t; None: the same.
    """

    power = 1

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        scale_conv: float | None = None,
        scale_1x1: float | None = None,
    ):
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)
        self.scale_conv, self.scale_1x1, self.multipliers = scale_conv, scale_1x1, {}

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step; that of each convolution, without the decay, is multiplied."""
        started = {
            weight: weight * (1 - group["lr"] * group["weight_decay"])
            for group in self.param_groups
            for weight in group["params"]
            if weight in self.multipliers and weight.grad is not None
        }
        result = super().step(closure)
        for weight, decayed in started.items():
            weight.sub_(decayed).mul_(self.multipliers[weight]).add_(decayed)
        return result


def multiplier(weight_OIKK: Tensor, scale_conv: float, scale_1x1: float, *, identity: bool, power: int) -> Tensor:
    """What gradients or steps of a kernel are multiplied by, in its shape."""
    factor, middle = torch.full_like(weight_OIKK, abs(scale_conv) ** power), weight_OIKK.shape[-1] // 2
    factor[:, :, middle, middle] += abs(scale_1x1) ** power
    if identity:
        factor[:, :, middle, middle] += torch.eye(len(factor)).to(factor)
    return factor


def _is_plain(module: nn.Conv2d) -> bool:
    sides: Sequence[int] = module.kernel_size
    return sides[0] == sides[1] and sides[0] > 1 and sides[0] % 2 == 1 and module.groups == 1
