"""Optimizers by name: torch's own, and those of the library pytorch-optimizer where it is installed.

The fused kernel is the default where an optimizer has one and the option block says nothing about it: one kernel for
all tensors instead of several for each.
"""

from __future__ import annotations

import functools
import importlib.util
import inspect
import io
import pickle
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from restore.errors import OptionsError, Problem
from restore.registry import OPTIMIZERS
from restore.signature import refusals_named
from restore.training import lamb as _lamb  # noqa: F401 - registers itself
from restore.training.rep_optimizers import RepOptimizer

__all__ = ["build_optimizer"]

_TORCH = "Adadelta Adafactor Adagrad Adam AdamW Adamax ASGD Muon NAdam RAdam RMSprop Rprop SGD"
_FUSED_DEVICES = {"cpu", "cuda"}
_FEW = 4  # values along an axis of a stand-in
_KERNELS = {"fused", "foreach", "differentiable"}


def build_optimizer(block: Mapping[str, Any], network: nn.Module, path: str = "train.optim_g") -> Optimizer:
    """The optimizer that `block` describes, over those parameters of `network` that require gradients.

    Raises:
        OptionsError: unknown optimizer or argument, a value of the wrong type, or an optimizer that a training from
            option files cannot use.
    """
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    devices = {parameter.device.type for parameter in parameters}
    supplied = {"fused": True} if _has_fused(block, path) and devices <= _FUSED_DEVICES else {}
    build = functools.partial(OPTIMIZERS.build, block, path=path, **supplied)
    if OPTIMIZERS.check(block, path, "params"):
        return build(parameters)  # which says what is wrong
    if OPTIMIZERS.get(block["type"]).__module__.partition(".")[0] != "torch":
        _try_out(build, parameters, block["type"], path)
    optimizer: Optimizer = build(parameters)
    if isinstance(optimizer, RepOptimizer):
        with refusals_named(block["type"], path):
            optimizer.learn_as_branches(network)
    return optimizer


def _try_out(build: Callable[[list[Tensor]], Optimizer], parameters: list[Tensor], name: str, path: str) -> None:
    """Take two steps with small stand-ins of a network's parameters, and save the optimizer's state.

    Many optimizers of a large library need second derivatives or one kind of parameter, or keep objects that a state
    file cannot hold. That is to be known before a training, not in it or when it is resumed.

    Raises:
        OptionsError: the optimizer fails, or its state cannot be saved and loaded.
    """
    stand_ins = [_stand_in(parameter) for parameter in parameters]
    try:
        with torch.random.fork_rng(devices=[]):
            optimizer = build(stand_ins)
            _ = [group["lr"] for group in optimizer.param_groups]
            for _ in range(2):
                for parameter in stand_ins:
                    parameter.grad = torch.rand_like(parameter)
                optimizer.step()
            stream = io.BytesIO()
            torch.save(optimizer.state_dict(), stream)
            stream.seek(0)
            torch.load(stream, weights_only=True)
    except Exception as error:  # whatever a library raises
        reason = next(iter(str(error).strip().splitlines()), "")
        if isinstance(error, pickle.UnpicklingError):
            reason = "its state holds more than numbers and tensors"
        hint = " It may take convolutions with train.channels_last: false." if _is_turned(stand_ins) else ""
        raise OptionsError(
            [Problem(f"{path}.type", f"{name} cannot train this network: {type(error).__name__} ({reason}).{hint}")]
        ) from error


def _is_turned(tensors: list[nn.Parameter]) -> bool:
    return not all(tensor.is_contiguous() for tensor in tensors)


def _stand_in(parameter: Tensor) -> nn.Parameter:
    """A parameter of as many dimensions, of at most a few values along each, in the same memory layout."""
    few = parameter.detach()
    for axis, length in enumerate(parameter.shape):
        few = few.narrow(axis, 0, min(length, _FEW))
    return nn.Parameter(torch.empty_like(few).copy_(few))


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
    """Whether an optimizer is not a wrapper of another one, steps without a closure, and has no evaluation mode."""
    first = next(iter(inspect.signature(optimizer).parameters))
    closure = inspect.signature(optimizer.step).parameters["closure"]
    return first == "params" and closure.default is None and not hasattr(optimizer, "eval")
