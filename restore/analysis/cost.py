"""What a module costs: parameters, multiply-adds, activations, convolutions, and what gathers move.

The rules, which are those of the organisers of efficiency challenges (fvcore's) where these have one:

- parameters: all of them, whether they are trained or not; buffers do not count.
- multiply-adds, one for each product of two numbers (a product of complex numbers is four):
    - convolutions, matrix products and attention, biases free. Fused attention, of which fvcore knows nothing, counts
      as its two products;
    - deformable convolution: the products of the convolution, and four for each value that is interpolated;
    - distances of all pairs: one for each pair and coordinate;
    - a Fourier transform of n complex numbers: 2 n log2 n, a radix-2 transform's n/2 log2 n complex products; of n real
      ones, to or from: half of that. In several dimensions one after the other;
    - bilinear resizing and sampling: four for each output; bicubic sampling: sixteen;
    - layer and group norm: five for each element, four without affine parameters;
    - elementwise functions, softmax, pooling, shuffles, gathers, sorting and nearest-neighbour resizing are free.
- activations: elements of the outputs of Conv2d and ConvTranspose2d modules, and the number of their calls.
- gathered: elements that indexing with tensors, gathers and embeddings read, and scatters write. They cost no product,
  but time. (What is made once and kept, such as the order of windows, counts where it is made.)

`torch.utils.flop_counter` sees the operators, so what is written with functions instead of modules counts too.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from restore.layers.compiled.library import switched_off

__all__ = ["SIDE_PX", "Cost", "cost_of", "count_parameters", "image_cost"]

SIDE_PX = 256
"""Side of the image at which efficiency challenges count."""

_CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)
_aten = torch.ops.aten


@dataclass(frozen=True)
class Cost:
    """What one application of a module costs.

    Attributes:
        parameters: how many numbers are learnt or frozen.
        macs: multiply-adds.
        activations: elements of the outputs of convolutions.
        num_convs: calls of convolutions.
        gathered: elements that gathers and scatters move.
        macs_by_operator: multiply-adds by the name of torch's operator.
        macs_by_module: multiply-adds by the path of the module in which they are made, those of its parts included.
    """

    parameters: int
    macs: int
    activations: int
    num_convs: int
    gathered: int
    macs_by_operator: Mapping[str, int] = field(default_factory=dict)
    macs_by_module: Mapping[str, int] = field(default_factory=dict)


def count_parameters(module: nn.Module) -> int:
    """Parameters of a module, each once, trained or not."""
    return sum(parameter.numel() for parameter in module.parameters())


def cost_of(module: nn.Module, *inputs: Any) -> Cost:
    """Count what `module(*inputs)` costs in evaluation; it is run once, where it is, and left as it was."""
    convolutions: list[int] = []
    moved: list[int] = []
    hooks = [
        each.register_forward_hook(lambda _module, _inputs, output: convolutions.append(output.numel()))
        for each in module.modules()
        if isinstance(each, _CONVOLUTIONS)
    ]
    counter = FlopCounterMode(display=False, custom_mapping=_rules(moved))
    training = {each: each.training for each in module.modules()}
    learning = [each for each in module.parameters() if each.requires_grad]
    try:
        module.requires_grad_(False)  # torch's counter stumbles over views of what learns
        with torch.no_grad(), switched_off(), counter:
            module.eval()(*inputs)
    finally:
        for each, mode in training.items():
            each.training = mode
        for parameter in learning:
            parameter.requires_grad_(True)
        for hook in hooks:
            hook.remove()
    counted = {str(operator).rpartition(".")[2]: twice // 2 for operator, twice in _totals(counter).items() if twice}
    return Cost(
        parameters=count_parameters(module),
        macs=sum(counted.values()),
        activations=sum(convolutions),
        num_convs=len(convolutions),
        gathered=sum(moved),
        macs_by_operator=counted,
        macs_by_module={
            path.partition(".")[2]: sum(operators.values()) // 2
            for path, operators in counter.get_flop_counts().items()
            if path != "Global"
        },
    )


def image_cost(network: nn.Module, *, channels: int = 3, height: int = SIDE_PX, width: int | None = None) -> Cost:
    """Count what `network` costs for one image of this size; on the meta device nothing is computed.

    Args:
        width: `height` when None.
    """
    parameter = next(network.parameters(), torch.zeros(()))
    size = (1, channels, height, height if width is None else width)
    return cost_of(network, torch.rand(size, device=parameter.device, dtype=parameter.dtype))


def _totals(counter: FlopCounterMode) -> Mapping[Any, int]:
    return counter.get_flop_counts().get("Global", {})


def _rules(moved: list[int]) -> dict[Any, Callable[..., int]]:
    """The rules of one count. All give twice the multiply-adds, as torch's own do."""
    rules: dict[Any, Callable[..., int]] = {operator: _product(operator) for operator in _PRODUCTS} | _RULES

    def gather(*_arguments: Any, out_shape: Any = None, **_options: Any) -> int:
        moved.append(torch.Size(out_shape).numel())
        return 0

    def scatter(_self: Any, *arguments: Any, **_options: Any) -> int:
        moved.append(max(torch.Size(each).numel() for each in arguments if isinstance(each, torch.Size)))
        return 0

    rules |= dict.fromkeys(_GATHERS, gather) | dict.fromkeys(_SCATTERS, scatter)
    if "torchvision" in sys.modules:
        rules[torch.ops.torchvision.deform_conv2d] = _deformable
    return rules


def _product(operator: Any) -> Callable[..., int]:
    """torch's own rule of a product or convolution, four times where numbers are complex."""
    of_real = flop_registry[operator]

    def rule(*arguments: Any, out_val: Any = None, **options: Any) -> int:
        return of_real(*arguments, out_val=out_val, **options) * (4 if out_val.is_complex() else 1)

    rule.__dict__["_get_raw"] = True  # torch then gives tensors, whose type matters, not their shapes
    return rule


def _each(times: int) -> Callable[..., int]:
    """So many for each element of the output."""

    def rule(*_shapes: Any, out_shape: Any = None, **_options: Any) -> int:
        return 2 * times * torch.Size(out_shape).numel()

    return rule


def _normalised(weight: int) -> Callable[..., int]:
    """Five for each element, four without a weight, which is the argument with this number."""

    def rule(x_shape: Any, *rest: Any, **_options: Any) -> int:
        affine = len(rest) > weight and rest[weight] is not None
        return 2 * (5 if affine else 4) * torch.Size(x_shape).numel()

    return rule


def _attention(query: Any, key: Any, value: Any, *_rest: Any, **_options: Any) -> int:
    """Scores and sums, (..., N, d) queries, (..., M, d) keys and (..., M, v) values."""
    return 2 * torch.Size(query[:-1]).numel() * key[-2] * (query[-1] + value[-1])


def _matrix_vector(*shapes: Any, **_options: Any) -> int:
    """A product of a matrix or vector, the largest of the arguments, and a vector."""
    return 2 * max(torch.Size(shape).numel() for shape in shapes if isinstance(shape, torch.Size))


def _pairs(first: Any, second: Any, *_rest: Any, **_options: Any) -> int:
    """(..., P, d) and (..., R, d)."""
    return 2 * torch.Size(first).numel() * second[-2]


def _pairs_within(x: Any, *_rest: Any, **_options: Any) -> int:
    rows, width = x
    return rows * (rows - 1) * width


def _fourier(sizes: Any, dims: Any, times: int) -> int:
    """`times` n log2 n products along each dimension."""
    steps = sum(math.log2(sizes[dim]) for dim in dims)
    return 2 * round(times * torch.Size(sizes).numel() * steps)


def _fourier_of_real(x: Any, dims: Any, *_rest: Any, **_options: Any) -> int:
    return _fourier(x, dims, 1)


def _fourier_to_real(_x: Any, dims: Any, *_rest: Any, out_shape: Any = None, **_options: Any) -> int:
    return _fourier(out_shape, dims, 1)


def _fourier_of_complex(x: Any, dims: Any, *_rest: Any, **_options: Any) -> int:
    return _fourier(x, dims, 2)


def _sampled(_x: Any, _grid: Any, mode: int = 0, *_rest: Any, out_shape: Any = None, **_options: Any) -> int:
    """Bilinear, nearest, bicubic."""
    return 2 * (4, 0, 16)[mode] * torch.Size(out_shape).numel()


def _deformable(x: Any, weight: Any, *_rest: Any, out_shape: Any = None, **_options: Any) -> int:
    """The products of a convolution of weights (out, in / groups, h, w), and the values that it interpolates."""
    _, channels, _, _ = x
    batch, _, height, width = out_shape
    interpolated = batch * height * width * channels * weight[2] * weight[3]
    return 2 * (torch.Size(out_shape).numel() * torch.Size(weight[1:]).numel() + 4 * interpolated)


_PRODUCTS = (_aten.mm, _aten.addmm, _aten.bmm, _aten.baddbmm, _aten.convolution)
_GATHERS = (_aten.gather, _aten.index, _aten.index_select, _aten.embedding, _aten.take)
_SCATTERS = (
    *(_aten.scatter, _aten.scatter_add, _aten.scatter_reduce, _aten.index_add, _aten.index_copy, _aten.index_put),
    *(_aten.scatter_, _aten.scatter_add_, _aten.scatter_reduce_, _aten.index_add_, _aten.index_copy_, _aten.index_put_),
)
_RULES: dict[Any, Callable[..., int]] = {
    _aten.mv: _matrix_vector,
    _aten.addmv: _matrix_vector,
    _aten.dot: _matrix_vector,
    _aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    _aten._cdist_forward: _pairs,
    _aten._euclidean_dist: _pairs,
    _aten._pdist_forward: _pairs_within,
    _aten._fft_r2c: _fourier_of_real,
    _aten._fft_c2r: _fourier_to_real,
    _aten._fft_c2c: _fourier_of_complex,
    _aten.grid_sampler_2d: _sampled,
    _aten.cudnn_grid_sampler: _each(4),
    _aten.grid_sampler_3d: _each(8),
    _aten.upsample_bilinear2d: _each(4),
    _aten.native_layer_norm: _normalised(1),
    _aten.native_group_norm: _normalised(0),
}
