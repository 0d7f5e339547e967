"""Half precision that does not overflow.

The residual stream of restoration transformers grows beyond 65504, the largest float16 number. Here the stream stays in
float32: layer norms bring it back to ordinary numbers, what is computed from those is safe in float16, and the two
places where large numbers are made (the last linear map of a branch, the convolutions on the stream) get an exact
remedy. Outside float16 autocast both functions are plain calls.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from torch import nn

from restore.layers.group_linear import GroupLinear
from restore.layers.normed_linear import NormedLinear

__all__ = ["add_branch", "float32_when_half", "without_autocast"]

HEADROOM = 16.0
"""A power of two: scaling by it is exact, and raises the largest branch output from 65504 to over a million."""


def _in_float16(x: torch.Tensor) -> bool:
    kind = x.device.type
    if kind == "meta":  # which has no autocast
        return False
    return torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind) == torch.float16


def without_autocast(x: torch.Tensor) -> AbstractContextManager[object]:
    """A context in which autocast is off on the device of `x`: for what needs the precision that it is given."""
    kind = x.device.type
    return nullcontext() if kind == "meta" else torch.autocast(kind, enabled=False)


def add_branch(linear: nn.Linear, x: torch.Tensor) -> torch.Tensor:
    """`linear(x)` for the residual stream; under float16 autocast its result is float32 and has headroom."""
    if not _in_float16(x):
        return linear(x)
    small = x / HEADROOM
    out = linear.product(small) if isinstance(linear, GroupLinear) else F.linear(small, linear.weight)
    out = out.float() * HEADROOM
    out = out if linear.bias is None else out + linear.bias.float()
    return linear.bn(out) if isinstance(linear, NormedLinear) else out


def float32_when_half(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """`module(x)`, computed in float32 where float16 autocast is on."""
    if not _in_float16(x):
        return module(x)
    with without_autocast(x):
        return module(x.float())
