"""Activations by name: functions, and those with something to learn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

__all__ = ["Activation", "StarReLU", "make_activation"]

Activation = Literal["gelu", "relu", "silu", "sigmoid", "quick_gelu", "star_relu"]


class StarReLU(nn.Module):
    """scale relu(x)^2 + bias with two learned numbers (MetaFormer Baselines, Yu et al. 2022, arXiv 2210.13452).

    Of a standard normal input, relu(x)^2 has mean 0.5 and variance 1.25.
    """

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.bias = nn.Parameter(torch.ones(1)), nn.Parameter(torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The same shape."""
        return self.scale * F.relu(x).square() + self.bias


def _quick_gelu(x: torch.Tensor) -> torch.Tensor:
    return x * torch.sigmoid(1.702 * x)


_FUNCTIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "gelu": F.gelu,
    "relu": F.relu,
    "silu": F.silu,
    "sigmoid": torch.sigmoid,
    "quick_gelu": _quick_gelu,
}


def make_activation(name: Activation) -> Callable[[torch.Tensor], torch.Tensor]:
    """A function, or a module of its own where there is something to learn."""
    return StarReLU() if name == "star_relu" else _FUNCTIONS[name]
