"""LAMB: Adam whose step is as long, for each tensor, as the tensor is (You et al. 2019, arXiv 1904.00962)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from restore.registry import OPTIMIZERS

__all__ = ["LAMB"]


@OPTIMIZERS.add()
class LAMB(Optimizer):
    """w <- w - lr |w| u / |u| with u = m / (sqrt(v) + eps) + weight_decay w, Adam's moments without their bias.

    The ratio |w| / |u| is 1 where either is 0, and for tensors of one dimension (biases, norms, factors of channels),
    from which no weight decay is taken either. It trains DeiT III (Touvron et al. 2022, arXiv 2204.07118) with a rate
    of 3e-3 for batches of 2048, a weight decay of 0.02 and gradients clipped to a norm of 1 (`clip_norm: 1.0`).

    Args:
        params: the parameters.
        lr: learning rate: how long a step is, relative to the tensor.
        betas: decay of the two moments.
        eps: added to the root of the second.
        weight_decay: share of the weights that the step is lengthened by.
        max_ratio: largest |w| / |u|.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 3e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.02,
        max_ratio: float = 10.0,
    ):
        super().__init__(
            params,
            {"lr": lr, "betas": tuple(betas), "eps": eps, "weight_decay": weight_decay, "max_ratio": max_ratio},
        )

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group)
        return loss

    def _update(self, parameter: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros(())
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        state["step"] += 1
        first, second = group["betas"]
        state["exp_avg"].lerp_(parameter.grad, 1 - first)
        state["exp_avg_sq"].mul_(second).addcmul_(parameter.grad, parameter.grad, value=1 - second)
        step = int(state["step"])
        mean = state["exp_avg"] / (1 - first**step)
        direction = mean / ((state["exp_avg_sq"] / (1 - second**step)).sqrt() + group["eps"])
        ratio: Tensor | float = 1.0
        if parameter.ndim > 1:
            direction = direction.add(parameter, alpha=group["weight_decay"])
            length, wanted = direction.norm(), parameter.norm()
            usable = (length > 0) & (wanted > 0)
            ratio = torch.where(usable, wanted / length.clamp(min=1e-38), 1.0).clamp(max=group["max_ratio"])
        parameter.sub_(direction * (group["lr"] * ratio))
