"""Attention in windows, spelled out for the processor.

torch's fused attention has no gradient for a learned bias there, and takes a general path with several passes over the
scores instead; without one, heads as narrow as those of restoration networks leave it half as fast as plain products.
Here the scores are made once, become the weights in place, and so does their gradient. Where no gradient is wanted, a
few windows at a time have theirs in the cache. In bfloat16 scores and weights are kept in it too, as that general path
does; products are summed in float32.

Shape legend: W windows, N tokens of one window, C channels, h heads, d channels of a head, K classes of windows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from restore.layers.exportable import is_exporting

__all__ = ["explicit_attention", "suits_explicit_attention"]

_SCORES_BYTES = 2**21  # of the windows that are computed at once without gradients


def suits_explicit_attention(qkv_WNC: Tensor, bias: Tensor | None) -> bool:
    """Whether this is the case that `explicit_attention` is for."""
    if qkv_WNC.device.type != "cpu" or qkv_WNC.dtype not in (torch.float32, torch.bfloat16):
        return False
    return _wants_gradient(qkv_WNC, bias) or not (torch.compiler.is_compiling() or is_exporting())


def explicit_attention(
    qkv_WNC: Tensor, num_heads: int, bias_KhNN: Tensor | None, counts: Sequence[int], scale: float
) -> Tensor:
    """Multi-head attention inside each window; differentiable once.

    Args:
        qkv_WNC: (W, N, 3C) queries, keys and values side by side, each (h, d).
        num_heads: h.
        bias_KhNN: added to the scores of the windows of each class, or (K, 1, N, N) where heads are alike.
        counts: how many windows of each class follow each other.
        scale: of the scores.

    Returns:
        (W, N, C).
    """
    if _wants_gradient(qkv_WNC, bias_KhNN):
        return _ExplicitAttention.apply(qkv_WNC, num_heads, bias_KhNN, tuple(counts), scale)
    return _without_gradient(qkv_WNC, num_heads, bias_KhNN, counts, scale)


def _wants_gradient(*tensors: Tensor | None) -> bool:
    return torch.is_grad_enabled() and any(tensor is not None and tensor.requires_grad for tensor in tensors)


def _without_gradient(
    qkv_WNC: Tensor, num_heads: int, bias_KhNN: Tensor | None, counts: Sequence[int], scale: float
) -> Tensor:
    output_WNC = torch.empty_like(qkv_WNC[..., : qkv_WNC.shape[-1] // 3])
    num_tokens = qkv_WNC.shape[1]
    at_once = max(1, _SCORES_BYTES // (num_heads * num_tokens**2 * qkv_WNC.element_size()))
    biases: Sequence[Tensor | None] = [None] if bias_KhNN is None else bias_KhNN.split(1)
    for class_qkv, class_output, bias in zip(qkv_WNC.split(counts), output_WNC.split(counts), biases, strict=True):
        for qkv, output in zip(class_qkv.split(at_once), class_output.split(at_once), strict=True):
            if len(qkv):
                (_, _, values), weights = _weigh(qkv, num_heads, bias, (len(qkv),), scale)
                output.copy_(_channels_last(torch.bmm(values, weights.mT)[None], num_heads))
    return output_WNC


def _weigh(
    qkv_WNC: Tensor, num_heads: int, bias_KhNN: Tensor | None, counts: Sequence[int], scale: float
) -> tuple[Tensor, Tensor]:
    """Queries (scaled), keys and values, (3, W*h, d, N), and the weights (W*h, N, N)."""
    qkv = _channels_first(qkv_WNC.unflatten(-1, (3, num_heads, -1)))
    queries, keys, _ = qkv
    queries.mul_(scale)
    weights = torch.bmm(queries.mT, keys)
    if bias_KhNN is not None:
        for scores_WhNN, bias_hNN in zip(weights.unflatten(0, (-1, num_heads)).split(counts), bias_KhNN, strict=True):
            scores_WhNN.add_(bias_hNN)
    return qkv, torch.softmax(weights, -1, out=weights)


class _ExplicitAttention(torch.autograd.Function):
    """Tokens stand innermost in here, so that every product but two runs along whole rows of N."""

    @staticmethod
    def forward(
        ctx: Any, qkv_WNC: Tensor, num_heads: int, bias_KhNN: Tensor | None, counts: Sequence[int], scale: float
    ) -> Tensor:
        qkv, weights = _weigh(qkv_WNC, num_heads, bias_KhNN, counts, scale)
        ctx.save_for_backward(qkv, weights)
        ctx.num_heads, ctx.counts, ctx.scale = num_heads, counts, scale
        return _channels_last(torch.bmm(qkv[2], weights.mT)[None], num_heads)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_WNC: Tensor) -> tuple[Tensor | None, ...]:
        qkv, weights = ctx.saved_tensors
        queries, keys, values = qkv
        (gradient,) = _channels_first(gradient_WNC.unflatten(-1, (1, ctx.num_heads, -1)))
        of_qkv = torch.empty_like(qkv)
        of_queries, of_keys, of_values = of_qkv
        torch.bmm(gradient, weights, out=of_values)
        scores = torch.bmm(gradient.mT, values)
        torch.ops.aten._softmax_backward_data.out(scores, weights, -1, weights.dtype, grad_input=scores)
        of_bias = None
        if ctx.needs_input_grad[2]:
            of_bias = torch.stack([_sum(part) for part in scores.unflatten(0, (-1, ctx.num_heads)).split(ctx.counts)])
        torch.bmm(keys, scores.mT, out=of_queries).mul_(ctx.scale)
        torch.bmm(queries, scores, out=of_keys)  # the queries are scaled already
        return _channels_last(of_qkv, ctx.num_heads), None, of_bias, None, None


def _channels_first(x_WNPhd: Tensor) -> Tensor:
    """(P, W*h, d, N) from (W, N, P, h, d); always a copy, which may be written to."""
    return x_WNPhd.permute(2, 0, 3, 4, 1).clone(memory_format=torch.contiguous_format).flatten(1, 2)


def _channels_last(x_PWdN: Tensor, num_heads: int) -> Tensor:
    """(W, N, P*h*d) from (P, W*h, d, N)."""
    return x_PWdN.unflatten(1, (-1, num_heads)).permute(1, 4, 0, 2, 3).flatten(2)


def _sum(x_WhNN: Tensor) -> Tensor:
    """The sum over windows, as a product with ones: it streams through memory once."""
    return (x_WhNN.new_ones(len(x_WhNN)) @ x_WhNN.flatten(1)).view(x_WhNN.shape[1:])
