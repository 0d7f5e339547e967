"""Convolutions of 3 x 3 in float32 by the shared library, where nothing is learnt: four products in place of nine.

Winograd's F(2 x 2, 3 x 3), after Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (CVPR 2016). Tiles
of 4 x 4 inputs and the weights are transformed, multiplied at each of 16 positions, and transformed back to 2 x 2
outputs. A product sums over the inputs alone, not over 9 times as many numbers, so results are nearer to those of
float64 than torch's.
"""

from __future__ import annotations

import torch
from torch import Tensor

from restore.layers.compiled.attention import suits_compiled_attention
from restore.layers.compiled.library import Convolution, convolution, packed_weights

__all__ = ["compiled_convolution", "pack_convolution", "suits_compiled_convolution"]

FEWEST_INPUTS = 24
"""Where there are fewer, transforming the tiles costs more than fewer products gain."""
FEWEST_PRODUCTS = 1 << 19
"""Of inputs, outputs and positions. Where there are fewer, calling the library costs more than it gains."""

_G = torch.tensor([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]], dtype=torch.float64)


def suits_compiled_convolution(x_BCHW: Tensor, weight_oi33: Tensor) -> bool:
    """Whether `compiled_convolution` takes this and gains: large enough, float32, and channels innermost."""
    if weight_oi33.dtype != torch.float32 or weight_oi33.shape[2:] != (3, 3) or not weight_oi33.is_cpu:
        return False
    if x_BCHW.dim() != 4 or x_BCHW.dtype != torch.float32 or not suits_compiled_attention(x_BCHW):
        return False
    outputs, inputs = weight_oi33.shape[:2]
    positions = x_BCHW.numel() // max(x_BCHW.shape[1], 1)
    return (
        x_BCHW.shape[1] == inputs >= FEWEST_INPUTS
        and positions * inputs * outputs >= FEWEST_PRODUCTS
        and x_BCHW.is_contiguous(memory_format=torch.channels_last)
    )


def pack_convolution(weight_oi33: Tensor) -> Tensor:
    """Weights as `compiled_convolution` reads them: 16 / 9 as many, and more where outputs are padded to vectors."""
    outputs, inputs = weight_oi33.shape[:2]
    transform = torch.einsum("ay,bx->abyx", _G, _G).reshape(16, 9)
    weight = (transform @ weight_oi33.detach().double().reshape(-1, 9).T).float().contiguous()
    return packed_weights(Convolution(inputs=inputs, outputs=outputs, weight=weight.data_ptr()))


def compiled_convolution(x_BCHW: Tensor, packed: Tensor, outputs: int, bias: Tensor | None) -> Tensor:
    """The convolution of 3 x 3 with zeros around the image, for what `suits_compiled_convolution` says.

    Args:
        x_BCHW: channels innermost in memory.
        packed: `pack_convolution` of the weights (outputs, C, 3, 3).
        outputs: how many channels come out.
        bias: (outputs,), or None.

    Returns:
        (B, outputs, H, W), channels innermost in memory.
    """
    batch, inputs, height, width = x_BCHW.shape
    out_BHWC = x_BCHW.new_empty(batch, height, width, outputs)
    bias = None if bias is None else bias.contiguous()
    convolution(
        Convolution(
            num_images=batch,
            height=height,
            width=width,
            inputs=inputs,
            outputs=outputs,
            x=x_BCHW.data_ptr(),
            out=out_BHWC.data_ptr(),
            bias=None if bias is None else bias.data_ptr(),
            packed=packed.data_ptr(),
        )
    )
    return out_BHWC.permute(0, 3, 1, 2)
