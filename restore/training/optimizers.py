"""Optimizers by name: torch's own, and those of the library pytorch-optimizer where it is installed.

The fused kernel is the default where an optimizer has one and the option block says nothing about it: one kernel for
all tensors instead of several for each.
"""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from restore.registry import OPTIMIZERS

__all__ = ["build_optimizer"]

_TORCH = "Adadelta Adafactor Adagrad Adam AdamW Adamax ASGD Muon NAdam RAdam RMSprop Rprop SGD"
_FUSED_DEVICES = {"cpu", "cuda"}
_KERNELS = {"fused", "foreach", "differentiable"}


def build_optimizer(block: Mapping[str, Any], network: nn.Module, path: str = "train.optim_g") -> Optimizer:
    """The optimizer that `block` describes, over those parameters of `network` that require gradients.

    Raises:
        OptionsError: unknown optimizer or argument, or a value of the wrong type.
    """
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    devices = {parameter.device.type for parameter in parameters}
    supplied = {"fused": True} if _has_fused(block, path) and devices <= _FUSED_DEVICES else {}
    return OPTIMIZERS.build(block, parameters, path=path, **supplied)


def _has_fused(block: Mapping[str, Any], path: str) -> bool:
    """Whether the optimizer has a fused kernel and the block leaves the choice open."""
    if _KERNELS & set(block) or not isinstance(block.get("type"), str):
        return False
    return "fused" in inspect.signature(OPTIMIZERS.get(block["type"], f"{path}.type")).parameters


for _name in _TORCH.split():
    if hasattr(torch.optim, _name):  # Adafactor came with torch 2.5, Muon with 2.9
        OPTIMIZERS.add(_name)(getattr(torch.optim, _name))


@OPTIMIZERS.add_source
def _add_library() -> None:
    """Register what pytorch-optimizer has beyond torch; importing it takes seconds, so not before it is needed."""
    if importlib.util.find_spec("pytorch_optimizer"):
        from pytorch_optimizer import get_supported_optimizers, load_optimizer

        for optimizer in map(load_optimizer, get_supported_optimizers()):
            if optimizer.__name__.lower() not in _TORCH.lower().split() and _is_plain(optimizer):
                OPTIMIZERS.add(optimizer.__name__)(optimizer)


def _is_plain(optimizer: type[Optimizer]) -> bool:
    """Whether an optimizer is no wrapper of another one, steps without a closure, and has no evaluation mode."""
    first = next(iter(inspect.signature(optimizer).parameters))
    closure = inspect.signature(optimizer.step).parameters["closure"]
    return first == "params" and closure.default is None and not hasattr(optimizer, "eval")
