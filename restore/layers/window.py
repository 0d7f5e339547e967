"""Windows on maps: the order of tokens, shift masks, and attention inside windows.

Shape legend: B batch, H x W map, C channels, N tokens of one window, W (in WNC) windows of the whole batch, h heads.

A (shifted) window partition is a permutation of the B*H*W tokens, so it is done here by one gather each way instead of
roll, partition, merge and roll. The windows of a shifted map fall into at most four classes that share a mask: inside,
right edge, bottom edge, corner. The permutation puts windows of one class next to each other, so the attention of each
class takes one bias of shape (h, N, N) and no (windows, h, N, N) mask is ever made. Everything that depends on sizes
alone is made once and cached by size and device.

Source: Swin Transformer (Liu et al. 2021, arXiv 2103.14030), sections 3.2 and 3.3. The order of windows and their
classes are ours; the results are those of the published mask up to float32 rounding.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from restore.layers.compiled.attention import compiled_attention, suits_compiled_attention
from restore.layers.compiled.branch import compiled_window_branch
from restore.layers.explicit_attention import explicit_attention, suits_explicit_attention
from restore.layers.exportable import is_exporting

__all__ = [
    "WindowPlan",
    "add_window_attention",
    "attend_in_windows",
    "join_windows",
    "shift_mask",
    "split_windows",
    "window_attention",
    "window_plan",
]

Pair = tuple[int, int]  # rows and columns
MASKED = -1000.0
"""Added to the scores of tokens that must not see each other: their weights are exactly 0.

The published models add -100, whose weights of 4e-44 change no result but are denormal numbers: processors multiply
these many times more slowly than others.
"""

PUBLISHED_MASKED = -100.0
"""What stands in the mask buffers of published checkpoints."""


class WindowPlan(NamedTuple):
    """How the tokens of a map are arranged in windows; see `window_plan`.

    Attributes:
        order: (B*H*W,) index of the token that stands at each place of the window order.
        inverse: (B*H*W,) the permutation back.
        masks: (K, 1, N, N) additive masks of the K classes of windows, or None when nothing is masked; (1, W, N, N),
            one for each window, in a network that is being exported.
        counts: number of windows of each class, in order.
        num_tokens: N.
    """

    order: torch.Tensor
    inverse: torch.Tensor
    masks: torch.Tensor | None
    counts: tuple[int, ...]
    num_tokens: int


def window_plan(
    batch: int, height: int, width: int, window: tuple[int, int], shift: tuple[int, int], device: torch.device
) -> WindowPlan:
    """The arrangement of a (B, H, W) map in windows after rolling it by `-shift`; cached by size and device.

    Args:
        height: H, a multiple of `window[0]`.
        width: W, a multiple of `window[1]`.
        shift: rows and columns; 0 for no shift. Tokens that meet only through the roll are masked from each other.
    """
    if is_exporting():
        return _exportable_plan(batch, height, width, window, shift, device)
    if torch.compiler.is_compiling():
        return _make_plan(batch, height, width, window, shift, device)
    return _cached_plan(batch, height, width, window, shift, torch.device(device))


def _make_plan(batch: int, height: int, width: int, window: Pair, shift: Pair, device: torch.device) -> WindowPlan:
    rows, columns = height // window[0], width // window[1]
    tokens = torch.arange(batch * height * width, device=device).view(batch, height, width)
    tokens = tokens.roll((-shift[0], -shift[1]), (1, 2))
    grid = tokens.view(batch, rows, window[0], columns, window[1]).permute(1, 3, 0, 2, 4)  # (rows, columns, B, h, w)
    if shift[0] == 0 and shift[1] == 0:
        groups, masks = [grid], None
    else:
        groups = [grid[:-1, :-1], grid[:-1, -1:], grid[-1:, :-1], grid[-1:, -1:]]
        masks = _class_masks(window, shift, device)[:, None]
    order = torch.cat([group.reshape(-1) for group in groups])
    inverse = torch.empty_like(order).scatter_(0, order, torch.arange(order.numel(), device=device))
    counts = tuple(group.shape[0] * group.shape[1] * group.shape[2] for group in groups)
    return WindowPlan(order, inverse, masks, counts, window[0] * window[1])


def _exportable_plan(
    batch: int, height: int, width: int, window: Pair, shift: Pair, device: torch.device
) -> WindowPlan:
    """A plan without groups, whose sizes may be symbols: windows stay in raster order, each with a mask of its own."""
    rows, columns = height // window[0], width // window[1]
    tokens = torch.arange(batch * height * width, device=device).view(batch, height, width)
    tokens = tokens.roll((-shift[0], -shift[1]), (1, 2))
    order = tokens.view(batch, rows, window[0], columns, window[1]).permute(1, 3, 0, 2, 4).reshape(-1)
    masks = None
    if shift[0] or shift[1]:
        bottom = (torch.arange(rows, device=device) == rows - 1).long()
        right = (torch.arange(columns, device=device) == columns - 1).long()
        classes = (2 * bottom[:, None] + right).reshape(-1, 1).expand(-1, batch).reshape(-1)
        masks = _class_masks(window, shift, device)[classes][None]
    return WindowPlan(order, order.argsort(), masks, (rows * columns * batch,), window[0] * window[1])


@functools.lru_cache(maxsize=64)
def _cached_plan(batch: int, height: int, width: int, window: Pair, shift: Pair, device: torch.device) -> WindowPlan:
    with torch.inference_mode(False), torch.no_grad():
        return _make_plan(batch, height, width, window, shift, device)


def _class_masks(window: tuple[int, int], shift: tuple[int, int], device: torch.device) -> torch.Tensor:
    """(4, N, N): the masks of windows inside, at the right edge, at the bottom edge and in the corner."""
    below = (torch.arange(window[0], device=device) >= window[0] - shift[0]).view(-1, 1)
    right = (torch.arange(window[1], device=device) >= window[1] - shift[1]).view(1, -1)
    if not shift[0]:
        below = torch.zeros_like(below)
    if not shift[1]:
        right = torch.zeros_like(right)
    none = torch.zeros(window, dtype=torch.long, device=device)
    regions = torch.stack([none, none + right, none + below, 2 * below + right]).flatten(1)
    return (regions[:, :, None] != regions[:, None, :]).float() * MASKED


def shift_mask(height: int, width: int, window: tuple[int, int], shift: tuple[int, int]) -> torch.Tensor:
    """(windows, N, N) the mask buffer that published checkpoints store for one size, windows in raster order."""
    rows, columns = height // window[0], width // window[1]
    classes = torch.zeros(rows, columns, dtype=torch.long)
    classes[:, -1] += 1
    classes[-1, :] += 2
    return _class_masks(window, shift, torch.device("cpu"))[classes.flatten()].clamp(min=PUBLISHED_MASKED)


def split_windows(x_BHWC: torch.Tensor, plan: WindowPlan) -> torch.Tensor:
    """(W, N, C): the map in window order."""
    tokens = _permuted(x_BHWC.reshape(-1, x_BHWC.shape[-1]), plan.order, plan.inverse)
    return tokens.view(-1, plan.num_tokens, tokens.shape[-1])


def join_windows(windows_WNC: torch.Tensor, plan: WindowPlan, shape: Sequence[int]) -> torch.Tensor:
    """The map of `shape` (B, H, W, C) from its windows."""
    tokens = _permuted(windows_WNC.reshape(-1, windows_WNC.shape[-1]), plan.inverse, plan.order)
    return tokens.view(shape)


def _permuted(tokens_TC: torch.Tensor, order: torch.Tensor, inverse: torch.Tensor) -> torch.Tensor:
    if is_exporting():  # an exported network has no backward pass
        return tokens_TC.index_select(0, order)
    return _Permute.apply(tokens_TC, order, inverse)


class _Permute(torch.autograd.Function):
    """Rows in another order. The gradient is the inverse gather: no atomic additions, hence deterministic."""

    @staticmethod
    def forward(ctx: Any, tokens_TC: torch.Tensor, order: torch.Tensor, inverse: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(inverse)
        return tokens_TC.index_select(0, order)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        return gradient.index_select(0, ctx.saved_tensors[0]), None, None


def attend_in_windows(
    x_BHWC: torch.Tensor,
    qkv: Callable[[torch.Tensor], torch.Tensor],
    num_heads: int,
    bias_hNN: torch.Tensor | None,
    plan: WindowPlan,
    scale: float | None = None,
) -> torch.Tensor:
    """Multi-head attention inside the windows of a map: `window_attention` without putting tokens in another order.

    Args:
        qkv: C to 3C channels of each token by itself: queries, keys and values side by side.
        bias_hNN: see `window_attention`, as all others.

    Returns:
        (B, H, W, C).
    """
    if not suits_compiled_attention(x_BHWC):
        return join_windows(
            window_attention(qkv(split_windows(x_BHWC, plan)), num_heads, bias_hNN, plan, scale), plan, x_BHWC.shape
        )
    qkv_TC = qkv(x_BHWC).flatten(0, 2)
    return _compiled(qkv_TC, num_heads, bias_hNN, plan, scale, plan.order).view(x_BHWC.shape)


def add_window_attention(
    block: nn.Module,
    x_BHWC: torch.Tensor,
    norm: nn.Module,
    qkv: nn.Module,
    proj: nn.Module,
    num_heads: int,
    bias_hNN: torch.Tensor | None,
    plan: WindowPlan,
    scale: float | None = None,
    table_NC: torch.Tensor | None = None,
) -> torch.Tensor | None:
    """A whole residual branch at once, or None where it cannot be; see `compiled_window_branch`."""
    masks_KNN = None if plan.masks is None else plan.masks.flatten(0, 1)
    scale = scale or 1 / math.sqrt(x_BHWC.shape[-1] // num_heads)
    tables = (bias_hNN, masks_KNN, plan.counts, plan.num_tokens, scale, plan.order, table_NC)
    return compiled_window_branch(block, x_BHWC, norm, qkv, proj, num_heads, *tables)


def window_attention(
    qkv_WNC: torch.Tensor, num_heads: int, bias_hNN: torch.Tensor | None, plan: WindowPlan, scale: float | None = None
) -> torch.Tensor:
    """Multi-head attention inside each window.

    Args:
        qkv_WNC: (W, N, 3C) queries, keys and values side by side, each (h, C / h).
        bias_hNN: added to the scores of every window, before the mask of the window's class.
        scale: of the scores; 1 / sqrt(C / h) when None.

    Returns:
        (W, N, C).
    """
    if suits_compiled_attention(qkv_WNC):
        return _compiled(qkv_WNC.flatten(0, 1), num_heads, bias_hNN, plan, scale).unflatten(0, qkv_WNC.shape[:2])
    dim = qkv_WNC.shape[-1] // (3 * num_heads)
    scale = scale or 1 / math.sqrt(dim)
    biases = _class_biases(bias_hNN, plan, qkv_WNC.dtype)
    if suits_explicit_attention(qkv_WNC, bias_hNN):
        bias_KhNN = biases.flatten(0, 1) if isinstance(biases, torch.Tensor) else None
        return explicit_attention(qkv_WNC, num_heads, bias_KhNN, plan.counts, scale)
    outputs = []
    groups = qkv_WNC.split(plan.counts) if len(plan.counts) > 1 else (qkv_WNC,)
    for qkv, bias in zip(groups, biases, strict=True):
        if len(groups) == 1 or qkv.shape[0]:
            outputs.append(_attention(qkv.unflatten(-1, (3, num_heads, dim)), bias, scale))
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs)


def _compiled(
    qkv_TC: torch.Tensor,
    num_heads: int,
    bias_hNN: torch.Tensor | None,
    plan: WindowPlan,
    scale: float | None,
    order: torch.Tensor | None = None,
) -> torch.Tensor:
    masks_KNN = None if plan.masks is None else plan.masks.flatten(0, 1)
    scale = scale or 1 / math.sqrt(qkv_TC.shape[-1] // (3 * num_heads))
    return compiled_attention(qkv_TC, num_heads, bias_hNN, masks_KNN, plan.counts, plan.num_tokens, scale, order)


def _class_biases(bias_hNN: torch.Tensor | None, plan: WindowPlan, dtype: torch.dtype) -> torch.Tensor | Sequence[None]:
    if plan.masks is None:
        return (None,) if bias_hNN is None else bias_hNN.to(dtype)[None, None]
    masks = plan.masks[:, :, None]  # (K, 1, 1, N, N)
    return (masks if bias_hNN is None else masks + bias_hNN).to(dtype)


def _attention(qkv: torch.Tensor, bias: torch.Tensor | None, scale: float) -> torch.Tensor:
    """(W, N, 3, h, d) -> (W, N, h*d)."""
    dim = qkv.shape[-1]
    if qkv.is_cuda and dim % 8:  # the fused kernels want aligned heads; zeros change neither scores nor sums
        qkv = F.pad(qkv, (0, -dim % 8))
    q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
    if bias is not None and not is_exporting():
        bias = bias.expand(q.shape[0], q.shape[1], -1, -1)
    if is_exporting():  # spelled out, as the fused form has another memory layout on each device
        scores = q @ k.transpose(-2, -1) * scale
        out = (scores if bias is None else scores + bias).softmax(-1) @ v
    else:
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=scale)
    return out[..., :dim].transpose(1, 2).flatten(2)
