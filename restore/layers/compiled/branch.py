"""Whole residual branches by the shared library, where nothing is learnt: layer norm, linear maps and what is between.

The tokens of a window, or 64 others, go from the stream to the stream without leaving the cache: norm, queries, keys
and values, attention, projection and sum; or norm, linear map, GELU, linear map and sum. Numbers are float32 inside;
under bfloat16's autocast products are of bfloat16 where the library has code that multiplies it faster.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from restore.layers.compiled.attention import NUMBERS, attention_problem, suits_compiled_attention
from restore.layers.compiled.library import Branch, branch

__all__ = ["compiled_mlp_branch", "compiled_window_branch"]


def compiled_window_branch(
    block: nn.Module,
    x_BHWC: Tensor,
    norm: nn.Module,
    qkv: nn.Module,
    proj: nn.Module,
    num_heads: int,
    bias_hNN: Tensor | None,
    masks_KNN: Tensor | None,
    counts: Sequence[int],
    num_tokens: int,
    scale: float,
    order: Tensor,
    table_NC: Tensor | None = None,
) -> Tensor | None:
    """`x + proj(attention(qkv(norm(x) + table)))` in windows, with the other arguments of `compiled_attention`.

    Args:
        block: whose branch this is; in training nothing is done here.
        norm: a layer norm of C channels.
        qkv: a linear map from C to 3C channels, with or without a bias: an `nn.Linear`, or what says by
            `weight_and_bias()` which linear map it is.
        proj: a linear map of C channels.
        table_NC: added to the tokens of each window.

    Returns:
        (B, H, W, C), or None where the branch has to be computed part by part: it is learnt, compiled or exported, a
        hook wants to see a part, or a part is another module than these or of another type than float32.
    """
    tables = [each for each in (bias_hNN, table_NC) if each is not None]
    if not _suits(block, x_BHWC, (norm, qkv, proj), tables):
        return None
    x = x_BHWC.reshape(-1, x_BHWC.shape[-1])
    attention, kept = attention_problem(
        x, num_heads, x.shape[1] // num_heads, bias_hNN, masks_KNN, order, counts, num_tokens, scale
    )
    problem = Branch(attention=attention)
    return _run(problem, x, norm, qkv, proj, [table_NC, *kept]).view(x_BHWC.shape)


def compiled_mlp_branch(
    block: nn.Module, x: Tensor, norm: nn.Module, first: nn.Module, second: nn.Module
) -> Tensor | None:
    """`x + second(gelu(first(norm(x))))` for each position (..., C); None as for `compiled_window_branch`."""
    if not _suits(block, x, (norm, first, second), []):
        return None
    return _run(Branch(), x.reshape(-1, x.shape[-1]), norm, first, second, [None]).view(x.shape)


def _suits(block: nn.Module, x: Tensor, parts: Sequence[nn.Module], tables: Sequence[Tensor]) -> bool:
    if block.training or torch.is_grad_enabled() or torch.compiler.is_compiling():
        return False
    if not suits_compiled_attention(x) or type(x) is not Tensor:
        return False
    norm, *maps = parts
    if type(norm) is not nn.LayerNorm and not getattr(norm, "computes_layer_norm", False):
        return False
    if not all(type(each) is nn.Linear or _is_map(each) for each in maps):
        return False
    if any(map(_has_hooks, block.modules())):
        return False
    weights = [parameter for part in parts for parameter in part.parameters()]
    return all(each.dtype == torch.float32 and each.is_cpu for each in (*weights, *tables))


def _is_map(module: nn.Module) -> bool:
    return hasattr(module, "weight_and_bias")


def _weight_and_bias(module: nn.Module) -> tuple[Tensor, Tensor | None]:
    if isinstance(module, nn.Linear):
        return module.weight, module.bias
    named: Callable[[], tuple[Tensor, Tensor | None]] = getattr(module, "weight_and_bias")  # noqa: B009
    return named()


def _has_hooks(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks)


def _run(
    problem: Branch, x_TC: Tensor, norm: nn.Module, first: nn.Module, second: nn.Module, kept: list[Tensor | None]
) -> Tensor:
    assert isinstance(norm, nn.LayerNorm)
    assert norm.normalized_shape == x_TC.shape[1:], (norm.normalized_shape, x_TC.shape)
    x_TC = x_TC if x_TC.stride(1) == 1 else x_TC.contiguous()
    out = x_TC.new_empty(x_TC.shape)
    if not x_TC.numel():
        return out
    (first_weight, first_bias), (second_weight, second_bias) = map(_weight_and_bias, (first, second))
    given = {
        "norm_weight": norm.weight,
        "norm_bias": norm.bias,
        "table": kept[0],
        "first_weight": first_weight,
        "first_bias": first_bias,
        "second_weight": second_weight,
        "second_bias": second_bias,
    }
    tensors = {name: tensor.contiguous() for name, tensor in given.items() if tensor is not None}
    autocast = torch.is_autocast_enabled("cpu")
    tensors |= {"x": x_TC, "out": out}
    for name, tensor in tensors.items():
        setattr(problem, name, tensor.data_ptr())
    problem.num_rows, problem.channels = x_TC.shape
    problem.hidden = len(first_weight)
    problem.x_stride, problem.out_stride, problem.epsilon = x_TC.stride(0), out.stride(0), norm.eps
    problem.attention.type = NUMBERS[x_TC.dtype]
    problem.attention.arithmetic = NUMBERS[torch.get_autocast_dtype("cpu") if autocast else torch.float32]
    branch(problem)
    return out
