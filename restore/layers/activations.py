"""Activations by name: functions, and those with something to learn."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

__all__ = ["Activation", "StarReLU", "activation_layer", "make_activation"]

Activation = Literal[
    "gelu", "relu", "silu", "sigmoid", "quick_gelu", "leaky_relu", "relu6", "hardswish", "prelu", "star_relu"
]

_SLOPE = 0.2  # of leaky and learned rectifiers, below zero


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
    "leaky_relu": partial(F.leaky_relu, negative_slope=_SLOPE),
    "relu6": F.relu6,
    "hardswish": F.hardswish,
}
_LEARNED: dict[str, Callable[[], nn.Module]] = {"star_relu": StarReLU, "prelu": partial(nn.PReLU, init=_SLOPE)}
_LAYERS: dict[str, Callable[[], nn.Module]] = {
    "gelu": nn.GELU,
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "sigmoid": nn.Sigmoid,
    "leaky_relu": partial(nn.LeakyReLU, _SLOPE),
    "relu6": nn.ReLU6,
    "hardswish": nn.Hardswish,
}


class _Function(nn.Module):
    def __init__(self, name: str):
        super().__init__()
        self.name = name

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return _FUNCTIONS[self.name](x)


def make_activation(name: Activation) -> Callable[[torch.Tensor], torch.Tensor]:
    """A function, or a module of its own where there is something to learn.

    Below zero, "leaky_relu" has a slope of 0.2, and "prelu" a learned one that starts there.
    """
    return _LEARNED[name]() if name in _LEARNED else _FUNCTIONS[name]


def activation_layer(name: Activation) -> nn.Module:
    """The same as a module, for a place in a sequence."""
    made = {**_LEARNED, **_LAYERS}.get(name)
    return _Function(name) if made is None else made()
