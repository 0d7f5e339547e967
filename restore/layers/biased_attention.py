"""Attention in windows with a learned bias, forward and backward spelled out for training on the processor.

torch's fused attention has no gradient for its mask there, and takes a general path with several passes over the scores
instead. Here the scores are made once, become the weights in place, and so does their gradient. In bfloat16 scores and
weights are kept in it too, as that general path does; products are summed in float32.

Shape legend: W windows, N tokens of one window, C channels, h heads, d channels of a head, K classes of windows.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["biased_attention", "suits_biased_attention"]


def suits_biased_attention(qkv_WNC: Tensor, bias: Tensor | None) -> bool:
    """Whether this is the case that `biased_attention` is for."""
    return (
        bias is not None
        and bias.requires_grad
        and torch.is_grad_enabled()
        and qkv_WNC.device.type == "cpu"
        and qkv_WNC.dtype in (torch.float32, torch.bfloat16)
    )


def biased_attention(qkv_WNC: Tensor, num_heads: int, bias_KhNN: Tensor, counts: Sequence[int], scale: float) -> Tensor:
    """Multi-head attention inside each window; differentiable once.

    Args:
        qkv_WNC: (W, N, 3C) queries, keys and values side by side, each (h, d).
        num_heads: h.
        bias_KhNN: added to the scores of the windows of each class.
        counts: how many windows of each class follow each other.
        scale: of the scores.

    Returns:
        (W, N, C).
    """
    return _BiasedAttention.apply(qkv_WNC, num_heads, bias_KhNN, tuple(counts), scale)


class _BiasedAttention(torch.autograd.Function):
    """Tokens stand innermost in here, so that every product but two runs along whole rows of N."""

    @staticmethod
    def forward(ctx, qkv_WNC, num_heads, bias_KhNN, counts, scale):
        qkv = _channels_first(qkv_WNC.unflatten(-1, (3, num_heads, -1)))
        queries, keys, values = qkv  # (W*h, d, N) each
        queries.mul_(scale)
        weights = torch.bmm(queries.mT, keys)
        for scores_WhNN, bias_hNN in zip(weights.unflatten(0, (-1, num_heads)).split(counts), bias_KhNN, strict=True):
            scores_WhNN.add_(bias_hNN)
        torch.softmax(weights, -1, out=weights)
        ctx.save_for_backward(qkv, weights)
        ctx.num_heads, ctx.counts, ctx.scale = num_heads, counts, scale
        return _channels_last(torch.bmm(values, weights.mT)[None], num_heads)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient_WNC):
        qkv, weights = ctx.saved_tensors
        queries, keys, values = qkv
        (gradient,) = _channels_first(gradient_WNC.unflatten(-1, (1, ctx.num_heads, -1)))
        of_qkv = torch.empty_like(qkv)
        of_queries, of_keys, of_values = of_qkv
        torch.bmm(gradient, weights, out=of_values)
        scores = torch.bmm(gradient.mT, values)
        torch.ops.aten._softmax_backward_data.out(scores, weights, -1, weights.dtype, grad_input=scores)
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
