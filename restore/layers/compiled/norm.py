"""Layer norm by the shared library: a few passes over a row in the nearest cache, forward and backward.

Sums are float32 and taken in one order, so the same inputs give the same bits with any number of threads. In float32
torch's operator is as fast; in bfloat16 it takes two to three times as long.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from restore.layers.compiled.attention import NUMBERS, suits_compiled_attention
from restore.layers.compiled.library import NormProblem, layer_norm

__all__ = ["compiled_layer_norm"]

FEWEST_NUMBERS = 1 << 13
"""Where there are fewer, calling the library costs more than it gains."""


def compiled_layer_norm(x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor | None:
    """`torch.nn.functional.layer_norm` over the last dimension; differentiable once.

    Args:
        x: (..., C), float32 or bfloat16.
        weight: (C,), float32; ones when None.
        bias: (C,), float32; zeros when None.
        eps: added to the variance.

    Returns:
        (..., C), of the type of `x`; None where torch has to compute it: on another device, compiled or exported, of
        other types, or too small.
    """
    if x.numel() < FEWEST_NUMBERS or torch.compiler.is_compiling() or type(x) is not Tensor:
        return None
    if not suits_compiled_attention(x):
        return None
    if any(each is not None and not (each.is_cpu and each.dtype == torch.float32) for each in (weight, bias)):
        return None
    if torch.is_grad_enabled() and any(each is not None and each.requires_grad for each in (x, weight, bias)):
        return _Differentiable.apply(x, weight, bias, eps)
    return _forward(x.contiguous(), weight, bias, eps, None)


class _Differentiable(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
        x = x.contiguous()
        statistics = x.new_empty(x.shape[:-1].numel(), 2, dtype=torch.float32)
        weight = None if weight is None else weight.contiguous()
        ctx.save_for_backward(x, weight, statistics)
        return _forward(x, weight, bias, eps, statistics)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, statistics = ctx.saved_tensors
        of_weight, of_bias = ctx.needs_input_grad[1:3]
        gradient = gradient.to(x.dtype).contiguous()
        x_gradient = torch.empty_like(x)
        affine_gradient = x.new_empty(2, x.shape[-1], dtype=torch.float32) if of_weight or of_bias else None
        problem = _problem(x, weight, None, 0.0, statistics)
        problem.gradient, problem.x_gradient = gradient.data_ptr(), x_gradient.data_ptr()
        problem.affine_gradient = None if affine_gradient is None else affine_gradient.data_ptr()
        layer_norm(problem)
        if affine_gradient is None:
            return x_gradient, None, None, None
        return x_gradient, affine_gradient[0] if of_weight else None, affine_gradient[1] if of_bias else None, None


def _forward(x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, statistics: Tensor | None) -> Tensor:
    out = torch.empty_like(x)
    kept = [None if each is None else each.contiguous() for each in (weight, bias)]
    problem = _problem(x, kept[0], kept[1], eps, statistics)
    problem.out = out.data_ptr()
    layer_norm(problem)
    return out


def _problem(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, statistics: Tensor | None
) -> NormProblem:
    given = {"x": x, "weight": weight, "bias": bias, "statistics": statistics}
    return NormProblem(
        num_rows=x.shape[:-1].numel(),
        channels=x.shape[-1],
        epsilon=eps,
        type=NUMBERS[x.dtype],
        **{name: tensor.data_ptr() for name, tensor in given.items() if tensor is not None},
    )
