"""What a network costs, counted as the organisers count it: parameters, multiply-adds, activations, convolutions.

The rules, at one RGB (or grey) image of 256x256:

- parameters: all of them, whether they are trained or not; buffers do not count.
- multiply-adds ("FLOPs" in the challenges since 2024, where fvcore counts them): one for each product in convolutions,
  matrix products and attention, biases free; four for each output pixel of a bilinear resize; five (four without
  affine parameters) for each element of a layer or group norm; elementwise functions, shuffles, pooling to a fixed
  window, nearest-neighbour resizing and softmax are free. `torch.utils.flop_counter` sees the operators, so what is
  written with functions instead of modules counts too. Fused attention, of which fvcore knows nothing, counts here.
- activations: elements of the outputs of Conv2d and ConvTranspose2d modules, and the number of their calls.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

__all__ = ["SIDE_PX", "Complexity", "count"]

SIDE_PX = 256
CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)
_aten = torch.ops.aten


@dataclass(frozen=True)
class Complexity:
    """What a network costs.

    Attributes:
        params_m: parameters, in 10^6.
        flops_g: multiply-adds, in 10^9.
        activations_m: elements of the outputs of convolutions, in 10^6.
        num_conv: calls of convolutions.
    """

    params_m: float
    flops_g: float
    activations_m: float
    num_conv: int


def count(network: nn.Module, *, channels: int = 3, side_px: int = SIDE_PX) -> Complexity:
    """Count what `network` costs for one image of `side_px` x `side_px`; it is run once, where it is."""
    convolutions: list[int] = []
    hooks = [
        module.register_forward_hook(lambda _module, _inputs, output: convolutions.append(output.numel()))
        for module in network.modules()
        if isinstance(module, CONVOLUTIONS)
    ]
    parameter = next(network.parameters(), torch.zeros(()))
    x_BCHW = torch.rand(1, channels, side_px, side_px, device=parameter.device, dtype=parameter.dtype)
    counter = FlopCounterMode(display=False, custom_mapping=_RULES)
    training = network.training
    try:
        with torch.no_grad(), counter:
            network.eval()(x_BCHW)
    finally:
        network.train(training)
        for hook in hooks:
            hook.remove()
    return Complexity(
        params_m=sum(parameter.numel() for parameter in network.parameters()) / 1e6,
        flops_g=counter.get_total_flops() / 2 / 1e9,
        activations_m=sum(convolutions) / 1e6,
        num_conv=len(convolutions),
    )


def _for_each_output(times: int) -> Any:
    def rule(*_shapes: Any, out_shape: Any = None, **_arguments: Any) -> int:
        return 2 * times * torch.Size(out_shape).numel()

    return rule


def _for_each_normalised(weight: int) -> Any:
    def rule(x_shape: Any, *rest: Any, **_arguments: Any) -> int:
        affine = len(rest) > weight and rest[weight] is not None
        return 2 * (5 if affine else 4) * torch.Size(x_shape).numel()

    return rule


_RULES = {  # twice the multiply-adds, as all of torch's own rules
    _aten.upsample_bilinear2d: _for_each_output(4),
    _aten.native_layer_norm: _for_each_normalised(1),
    _aten.native_group_norm: _for_each_normalised(0),
}
