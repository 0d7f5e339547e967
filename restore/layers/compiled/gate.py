"""A gate that follows from what it lets through, by the shared library: one pass over the maps in place of five."""

from __future__ import annotations

import torch
from torch import Tensor

from restore.layers.compiled.attention import NUMBERS, suits_compiled_attention
from restore.layers.compiled.library import Gate, gate

__all__ = ["compiled_gate"]


def compiled_gate(x_BCHW: Tensor, change_BCHW: Tensor, place_BCHW: Tensor | None = None) -> Tensor | None:
    """`x + change * (sigmoid(change) + 1/2)`, where nothing is learnt.

    Args:
        x_BCHW: float32 or bfloat16, channels innermost in memory.
        change_BCHW: of the same type and layout.
        place_BCHW: some channels of a wider map of this layout, which get the result as well.

    Returns:
        A new map of this type and layout; None, and nothing is done, where torch has to compute it.
    """
    maps = [x_BCHW, change_BCHW, *([] if place_BCHW is None else [place_BCHW])]
    if any(each.dim() != 4 or each.shape != x_BCHW.shape or each.dtype != x_BCHW.dtype for each in maps):
        return None
    if torch.is_grad_enabled() or type(x_BCHW) is not Tensor or not suits_compiled_attention(x_BCHW):
        return None
    if not all(each.is_contiguous(memory_format=torch.channels_last) for each in maps[:2]):
        return None
    batch, channels, height, width = x_BCHW.shape
    problem = Gate(num_rows=batch * height * width, channels=channels, type=NUMBERS[x_BCHW.dtype])
    if place_BCHW is not None:
        stride = place_BCHW.stride(3)
        if place_BCHW.stride() != (height * width * stride, 1, width * stride, stride):
            return None
        problem.place, problem.place_stride = place_BCHW.data_ptr(), stride
    out_BCHW = torch.empty_like(x_BCHW, memory_format=torch.channels_last)
    problem.x, problem.change, problem.out = x_BCHW.data_ptr(), change_BCHW.data_ptr(), out_BCHW.data_ptr()
    gate(problem)
    return out_BCHW
