"""Optimizers by name: torch's own, and those of the library pytorch-optimizer where it is installed.

The fused kernel is the default where an optimizer has one and the option block says nothing about it: one kernel for
all tensors instead of several for each.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from restore.registry import OPTIMIZERS

__all__ = ["build_optimizer"]

_FUSED_DEVICES = ("cpu", "cuda")

for _name in [
    "Adadelta",
    "Adafactor",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "ASGD",
    "Muon",
    "NAdam",
    "RAdam",
    "RMSprop",
] + ["Rprop", "SGD"]:
    if hasattr(torch.optim, _name):  # Adafactor came with torch 2.5, Muon with 2.9
        OPTIMIZERS.add(_name)(getattr(torch.optim, _name))


def build_optimizer(block: Mapping[str, Any], network: nn.Module, path: str = "train.optim_g") -> Optimizer:
    """The optimizer that `block` describes, over those parameters of `network` that require gradients.

    Raises:
        OptionsError: unknown optimizer or argument, or a value of the wrong type.
    """
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    devices = {parameter.device.type for parameter in parameters}
    supplied = {}
    unsaid = not {"fused", "foreach", "differentiable"} & set(block)
    if unsaid and isinstance(block.get("type"), str) and devices <= set(_FUSED_DEVICES):
        if "fused" in inspect.signature(OPTIMIZERS.get(block["type"], f"{path}.type")).parameters:
            supplied["fused"] = True
    return OPTIMIZERS.build(block, parameters, path=path, **supplied)
