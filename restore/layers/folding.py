"""What only training needs, replaced by something smaller that computes the same.

A module offers this by a method, which gives the module to put in its place (or itself, after changing its parts):

    class RepConv(nn.Module):
        def folded(self) -> nn.Module: ...      # a plain convolution with the sum of all kernels

Besides, a batch norm right after a convolution in an `nn.Sequential` goes into the convolution.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from typing import Protocol, TypeVar, cast, runtime_checkable

import torch
from torch import nn

__all__ = ["Convolution", "Foldable", "fold", "fold_norm", "scale_weights"]

Convolution = TypeVar("Convolution", nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


@runtime_checkable
class Foldable(Protocol):
    """A module that has training-time structure."""

    def folded(self) -> nn.Module:
        """A module that computes the same in evaluation mode; called once, on a copy that may be changed."""


def fold(network: nn.Module) -> nn.Module:
    """A copy of `network` in evaluation mode, without gradients, that computes the same with fewer operations.

    Modules are replaced from the outside in: first a module, then the parts of what took its place. Their new weights
    are computed in float64.
    """
    with torch.no_grad():
        return _folded(copy.deepcopy(network).eval(), {}).requires_grad_(False)


def fold_norm(convolution: Convolution, norm: nn.modules.batchnorm._BatchNorm) -> Convolution:
    """The convolution, or linear map, that computes what `norm` in evaluation mode makes of its output."""
    fused = copy.deepcopy(convolution)
    dtype = convolution.weight.dtype
    assert norm.running_var is not None
    assert norm.running_mean is not None
    scale = (norm.running_var.double() + norm.eps).rsqrt()
    shift = -norm.running_mean.double() * scale
    if norm.affine:
        scale, shift = scale * norm.weight, shift * norm.weight + norm.bias
    if convolution.bias is not None:
        shift = shift + scale * convolution.bias
    weight = convolution.weight.double()
    if isinstance(convolution, nn.modules.conv._ConvTransposeNd):  # (in, out / groups, ...), each with its own inputs
        weight = weight.unflatten(0, (convolution.groups, -1)) * _column(
            scale.view(convolution.groups, 1, -1), weight.ndim + 1
        )
        weight = weight.flatten(0, 1)
    else:
        weight = weight * _column(scale, weight.ndim)
    fused.weight = nn.Parameter(weight.to(dtype))
    fused.bias = nn.Parameter(shift.to(dtype))
    return fused


def scale_weights(layer: nn.Module, factor_C: torch.Tensor) -> None:
    """Multiply each output channel of a linear map, a convolution or the last step of a norm by a factor, in place."""
    for parameter in layer._parameters.values():
        if parameter is not None:
            parameter.mul_(_column(factor_C, parameter.ndim))


def _column(values: torch.Tensor, ndim: int) -> torch.Tensor:
    """With further dimensions of size 1 at the end."""
    return values[(..., *(None,) * (ndim - values.ndim))]


def _folded(module: nn.Module, done: dict[int, tuple[nn.Module, nn.Module]]) -> nn.Module:
    """What takes the place of `module`, the same wherever it stands; `done` holds both by identity."""
    if id(module) in done:
        return done[id(module)][1]
    replacement = _replacement(module, module.folded) if isinstance(module, Foldable) else module
    done[id(module)], done[id(replacement)] = (module, replacement), (replacement, replacement)
    for name, child in replacement._modules.items():
        if child is not None:
            replacement._modules[name] = _folded(child, done)
    if isinstance(replacement, nn.Sequential) and type(replacement).forward is nn.Sequential.forward:
        _fold_norms(replacement)
    return replacement


def _replacement(module: nn.Module, folded: Callable[[], nn.Module]) -> nn.Module:
    """What the module offers, computed in float64."""
    dtypes = {tensor.dtype for tensor in (*module.parameters(), *module.buffers()) if tensor.is_floating_point()}
    if len(dtypes) != 1:  # what is of mixed types is so on purpose
        return folded().eval()
    (dtype,) = dtypes

    def back(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.to(dtype) if tensor.is_floating_point() else tensor

    module.double()
    replacement = folded().eval()
    module._apply(back)  # of which some parts may still be in use
    return replacement._apply(back)


def _fold_norms(container: nn.Sequential) -> None:
    for index, (layer, following) in enumerate(itertools.pairwise(container)):
        if type(layer) in _CONVOLUTIONS and type(following) in _BATCH_NORMS and following.running_mean is not None:
            fused = fold_norm(cast(nn.Conv2d, layer), cast(nn.BatchNorm2d, following))
            container[index], container[index + 1] = fused, nn.Identity()
