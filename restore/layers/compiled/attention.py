"""Attention in windows by the shared library, as operators of torch.

Scores, bias, mask, softmax and weighted sum of a window and head stay in the nearest cache, and the windows are read
from where their tokens lie in the map. The backward pass makes the scores anew, so nothing is kept for it but its
inputs. Numbers are float32 inside, whatever comes in and goes out; the same inputs and number of threads give the same
bits.

Shape legend: T tokens of all windows, W windows, N tokens of one window, C channels, h heads, K classes of windows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from restore.layers.compiled.library import Problem, attention, is_usable
from restore.layers.exportable import is_exporting

__all__ = ["NUMBERS", "attention_problem", "compiled_attention", "every_operator_is_seen", "suits_compiled_attention"]

NUMBERS = {torch.float32: 0, torch.bfloat16: 1}
"""The types of numbers, by their numbers in source/attention.h."""


def suits_compiled_attention(x: Tensor) -> bool:
    """Whether queries, keys and values like `x` can be given to the library.

    Not where others will run the network, nor where every operator has to be seen: by a mode such as torch's counter of
    operations, by `torch.func`, or by forward-mode differentiation.
    """
    if x.device.type != "cpu" or x.dtype not in NUMBERS or is_exporting():
        return False
    if not torch.compiler.is_compiling() and every_operator_is_seen():
        return False
    if torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") not in NUMBERS:
        return False
    return is_usable()


def every_operator_is_seen() -> bool:
    """Whether a mode, `torch.func` or forward-mode differentiation looks at each of torch's operators."""
    return bool(
        is_in_torch_dispatch_mode() or torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0
    )


def compiled_attention(
    qkv_TC: Tensor,
    num_heads: int,
    bias_hNN: Tensor | None,
    masks_KNN: Tensor | None,
    counts: Sequence[int],
    num_tokens: int,
    scale: float,
    order: Tensor | None = None,
) -> Tensor:
    """Multi-head attention inside each window; differentiable once.

    Args:
        qkv_TC: (T, 3C) queries, keys and values side by side, each (h, C / h).
        bias_hNN: added to the scores of every window.
        masks_KNN: added to the scores of the windows of each class.
        counts: how many windows of each class follow each other.
        num_tokens: N.
        scale: of the scores.
        order: (T,) the row in which each token of each window stands; as they follow each other when None.

    Returns:
        (T, C), in the order of the rows that came in.
    """
    bias_hNN = None if bias_hNN is None else bias_hNN.float()
    return torch.ops.restore.window_attention(
        qkv_TC, num_heads, bias_hNN, masks_KNN, order, list(counts), num_tokens, scale
    )


_ARGUMENTS = (
    "Tensor qkv, SymInt num_heads, Tensor? bias, Tensor? masks, Tensor? order, SymInt[] counts, SymInt num_tokens, "
    "float scale"
)


@torch.library.custom_op(
    "restore::window_attention", mutates_args=(), device_types="cpu", schema=f"({_ARGUMENTS}) -> Tensor"
)
def _forward(
    qkv: Tensor,
    num_heads: int,
    bias: Tensor | None,
    masks: Tensor | None,
    order: Tensor | None,
    counts: Sequence[int],
    num_tokens: int,
    scale: float,
) -> Tensor:
    out = qkv.new_empty(qkv.shape[0], qkv.shape[1] // 3)
    if out.numel():
        qkv, problem, _kept = _problem(qkv, num_heads, bias, masks, order, counts, num_tokens, scale)
        problem.out, problem.out_stride = out.data_ptr(), out.stride(0)
        attention(problem)
    return out


@torch.library.custom_op(
    "restore::window_attention_backward",
    mutates_args=(),
    device_types="cpu",
    schema=f"(Tensor gradient, bool of_bias, {_ARGUMENTS}) -> (Tensor, Tensor)",
)
def _backward(
    gradient: Tensor,
    of_bias: bool,
    qkv: Tensor,
    num_heads: int,
    bias: Tensor | None,
    masks: Tensor | None,
    order: Tensor | None,
    counts: Sequence[int],
    num_tokens: int,
    scale: float,
) -> tuple[Tensor, Tensor]:
    """The gradients of queries, keys and values, and of the bias (empty where it is not wanted)."""
    qkv_gradient = qkv.new_empty(qkv.shape)
    bias_gradient = qkv.new_zeros((num_heads, num_tokens, num_tokens) if of_bias else (0,), dtype=torch.float32)
    if qkv.numel():
        gradient = _with_rows(gradient)
        qkv, problem, _kept = _problem(qkv, num_heads, bias, masks, order, counts, num_tokens, scale)
        problem.gradient, problem.gradient_stride = gradient.data_ptr(), gradient.stride(0)
        problem.qkv_gradient, problem.qkv_gradient_stride = qkv_gradient.data_ptr(), qkv_gradient.stride(0)
        problem.bias_gradient = bias_gradient.data_ptr() if of_bias else None
        attention(problem)
    return qkv_gradient, bias_gradient


def _problem(
    qkv: Tensor,
    num_heads: int,
    bias: Tensor | None,
    masks: Tensor | None,
    order: Tensor | None,
    counts: Sequence[int],
    num_tokens: int,
    scale: float,
) -> tuple[Tensor, Problem, list[Tensor | None]]:
    """The queries, keys and values as they are read, the problem but for its results, and what must live as long."""
    assert qkv.shape[1] % (3 * num_heads) == 0, (qkv.shape, num_heads)
    qkv = _with_rows(qkv)
    problem, kept = attention_problem(
        qkv, num_heads, qkv.shape[1] // (3 * num_heads), bias, masks, order, counts, num_tokens, scale
    )
    problem.qkv, problem.qkv_stride = qkv.data_ptr(), qkv.stride(0)
    return qkv, problem, kept


def attention_problem(
    rows: Tensor,
    num_heads: int,
    head_dim: int,
    bias: Tensor | None,
    masks: Tensor | None,
    order: Tensor | None,
    counts: Sequence[int],
    num_tokens: int,
    scale: float,
) -> tuple[Problem, list[Tensor | None]]:
    """The problem but for what is read and written, for so many rows of this type; and what must live as long."""
    assert sum(counts) * num_tokens == len(rows), (counts, num_tokens, rows.shape)
    bias, masks = _packed(bias), _packed(masks)
    assert bias is None or bias.shape == (num_heads, num_tokens, num_tokens), bias.shape
    assert masks is None or masks.shape == (len(counts), num_tokens, num_tokens), masks.shape
    assert order is None or order.shape == rows.shape[:1], order.shape
    classes = torch.tensor(counts, dtype=torch.int64, device="cpu")
    order = None if order is None else order.contiguous()
    problem = Problem(
        num_windows=sum(counts),
        num_tokens=num_tokens,
        num_heads=num_heads,
        head_dim=head_dim,
        num_classes=len(counts),
        bias=_address(bias),
        masks=_address(masks),
        order=_address(order),
        counts=classes.data_ptr(),
        scale=scale,
        type=NUMBERS[rows.dtype],
        arithmetic=NUMBERS[rows.dtype],
    )
    return problem, [bias, masks, order, classes]


def _with_rows(x: Tensor) -> Tensor:
    return x if x.stride(1) == 1 else x.contiguous()


def _packed(table: Tensor | None) -> Tensor | None:
    return None if table is None else table.float().contiguous()


def _address(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


@_forward.register_fake
def _(qkv: Tensor, *_arguments: Any) -> Tensor:
    return qkv.new_empty(qkv.shape[0], qkv.shape[1] // 3)


@_backward.register_fake
def _(
    _gradient: Tensor,
    of_bias: bool,
    qkv: Tensor,
    num_heads: int,
    _bias: Tensor | None,
    _masks: Tensor | None,
    _order: Tensor | None,
    _counts: Sequence[int],
    num_tokens: int,
    _scale: float,
) -> tuple[Tensor, Tensor]:
    shape = (num_heads, num_tokens, num_tokens) if of_bias else (0,)
    return qkv.new_empty(qkv.shape), qkv.new_empty(shape, dtype=torch.float32)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    qkv, ctx.num_heads, bias, masks, order, ctx.counts, ctx.num_tokens, ctx.scale = inputs
    ctx.save_for_backward(qkv, bias, masks, order)


def _differentiate(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    qkv, bias, masks, order = ctx.saved_tensors
    of_bias = bias is not None and ctx.needs_input_grad[2]
    of_qkv, bias_gradient = torch.ops.restore.window_attention_backward(
        gradient, of_bias, qkv, ctx.num_heads, bias, masks, order, ctx.counts, ctx.num_tokens, ctx.scale
    )
    return of_qkv, None, bias_gradient if of_bias else None, None, None, None, None, None


_forward.register_autograd(_differentiate, setup_context=_keep)
