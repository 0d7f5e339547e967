"""RepConvSR: a small convolutional network for restoration that folds to plain 3x3 convolutions.

It is of the family of the fast networks of the efficient super-resolution challenges, and has no published weights:

- gated blocks of three 3x3 convolutions without parameters in the gate, after SPAN (Wan et al. 2024, arXiv 2311.12770);
  here only the change is gated, by [0.5, 1.5] instead of [-0.5, 0.5], so that a deep stack passes signals on from the
  start and does not amplify them block by block, which made trainings at high rates break down;
- the outputs of all blocks put together by a 1x1 convolution, after IMDN (Hui et al. 2019, arXiv 1909.11856);
- re-parameterised convolutions (see `restore.layers.reparameterised`), and pixel shuffle over a bilinear enlargement,
  as in ECBSR (Zhang et al. 2021);
- where the size stays the same, pixels may be put into channels first, as in FFDNet (Zhang et al. 2018, arXiv
  1710.04026): a quarter of the work for a pixel, and a view twice as wide.

Shapes: B batch, C num_feat, H x W image, s upscale, u unshuffle.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from restore.layers.compiled.gate import compiled_gate
from restore.layers.convolution import enlarged
from restore.layers.exportable import is_exporting
from restore.layers.layout import layout_of
from restore.layers.padding import pad_to_multiple
from restore.layers.reparameterised import RepConv3x3
from restore.networks.base import Network, State
from restore.networks.residual import conv3x3
from restore.networks.spec import ImageSpec
from restore.registry import NETWORKS

__all__ = ["RepConvSR"]

CONVS_PER_BLOCK = 3
SLOPE = 0.05  # of the leaky ReLU below zero
MIDDLE, GAIN = 0.5, 4.0
"""What is taken off the image, and the factor after that: features of about one, which the activations can bend."""
CHANGE = 0.3
"""How much of He's initialisation a block's last convolution starts with."""


@NETWORKS.add()
class RepConvSR(Network):
    """Gated blocks of re-parameterised convolutions at the input's size, and pixel shuffle on a bilinear enlargement.

    With upscale 1 what is learnt is added to the input itself.

    Args:
        num_in_ch: channels of the image.
        num_out_ch: the same.
        num_feat: C.
        num_block: gated blocks.
        upscale: s.
        expansion: width of the convolutions' inner branch in training; 0 for plain convolutions, as after folding.
        unshuffle: u, side of the squares of pixels that are put into channels before the first convolution.

    Raises:
        ValueError: another number of channels at the end than at the start.
    """

    def __init__(
        self,
        num_in_ch: int = 3,
        num_out_ch: int = 3,
        num_feat: int = 48,
        num_block: int = 6,
        upscale: int = 4,
        expansion: int = 2,
        unshuffle: int = 1,
    ):
        super().__init__()
        if num_in_ch != num_out_ch:
            raise ValueError(f"num_in_ch and num_out_ch must be equal, given {num_in_ch} and {num_out_ch}")
        self.upscale, self.unshuffle = upscale, unshuffle
        self.conv_first = conv3x3(num_in_ch * unshuffle**2, num_feat)
        self.body = nn.ModuleList(_GatedBlock(num_feat, expansion) for _ in range(num_block))
        self.fuse = nn.Conv2d(num_block * num_feat, num_feat, 1)
        self.conv_body = _conv(num_feat, expansion)
        self.conv_last = conv3x3(num_feat, num_out_ch * (upscale * unshuffle) ** 2)
        self.pixel_shuffle = nn.PixelShuffle(upscale * unshuffle)
        self._initialise()

    @property
    def spec(self) -> ImageSpec:
        """What the network wants of its images."""
        channels = self.conv_first.in_channels // self.unshuffle**2
        return ImageSpec(
            self.upscale, channels, channels, size_multiple=self.unshuffle, precisions=("fp32", "bf16", "fp16")
        )

    def _initialise(self) -> None:
        """He's initialisation, less of it where a block adds to its input; the network starts as its enlargement."""
        for layer in (self.conv_first, self.fuse, self.conv_body):
            _initialise(layer, nonlinearity="linear")
        for block in self.body:
            assert isinstance(block, _GatedBlock)
            for layer in block.layers():
                _initialise(layer, a=SLOPE)
            with torch.no_grad():
                block.layers()[-1].weight.mul_(CHANGE)
        for parameter in self.conv_last.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """(B, num_in_ch, H, W) in [0, 1] to (B, num_in_ch, H*s, W*s)."""
        padded = pad_to_multiple(x_BCHW, self.unshuffle)
        shallow = features = self.conv_first(F.pixel_unshuffle((padded - MIDDLE) * GAIN, self.unshuffle))
        features = shallow + self.conv_body(self.fuse(self._outputs(features)))
        height, width = (side * self.upscale for side in x_BCHW.shape[2:])
        residual = self.pixel_shuffle(self.conv_last(features))[:, :, :height, :width]
        if self.upscale == 1:
            return residual + x_BCHW
        return residual + enlarged(x_BCHW, self.upscale, "bilinear")

    def _outputs(self, features_BCHW: torch.Tensor) -> torch.Tensor:
        """The outputs of all blocks side by side; without gradients each is put in its place and not kept beside it."""
        if _is_recorded():
            outputs = []
            for block in self.body:
                features_BCHW = block(features_BCHW)
                outputs.append(features_BCHW)
            return torch.cat(outputs, 1)
        batch, channels, height, width = features_BCHW.shape
        placed = torch.empty(
            (batch, len(self.body) * channels, height, width),
            dtype=features_BCHW.dtype,
            device=features_BCHW.device,
            memory_format=layout_of(features_BCHW),
        )
        for block, place in zip(self.body, placed.split(channels, 1), strict=True):
            features_BCHW = block(features_BCHW, place)
        return placed

    @classmethod
    def recognise(cls, state: State) -> dict[str, Any] | None:
        """The constructor's arguments; folded weights are those of expansion 0."""
        if not {"conv_first.weight", "fuse.weight", "conv_body.bias", "conv_last.weight"} <= set(state):
            return None
        num_feat, folded = state["conv_first.weight"].shape[:2]
        channels = 3 if folded % 3 == 0 and math.isqrt(folded // 3) ** 2 == folded // 3 else 1
        spatial = state.get("conv_body.spatial")
        return {
            "num_in_ch": channels,
            "num_out_ch": channels,
            "num_feat": num_feat,
            "num_block": state["fuse.weight"].shape[1] // num_feat,
            "upscale": math.isqrt(len(state["conv_last.weight"]) // folded),
            "expansion": 0 if spatial is None else len(spatial) // num_feat,
            "unshuffle": math.isqrt(folded // channels),
        }


class _GatedBlock(nn.Module):
    """The identity, and three convolutions times a gate in [0.5, 1.5] that follows from the last of them."""

    def __init__(self, channels: int, expansion: int):
        super().__init__()
        self.convs = nn.ModuleList(_conv(channels, expansion) for _ in range(CONVS_PER_BLOCK))

    def layers(self) -> list[nn.Conv2d | RepConv3x3]:
        """The convolutions, in order."""
        return [layer for layer in self.convs if isinstance(layer, (nn.Conv2d, RepConv3x3))]

    def forward(self, x_BCHW: torch.Tensor, place_BCHW: torch.Tensor | None = None) -> torch.Tensor:
        """The result, which is put into `place_BCHW` as well, where nothing is recorded."""
        first, second, last = self.convs
        in_place = not _is_recorded()
        change = first(x_BCHW)
        for layer in (second, last):
            change = layer(F.leaky_relu(change, SLOPE, in_place))
        if not in_place:
            return x_BCHW + change * (torch.sigmoid(change) + 0.5)
        result = compiled_gate(x_BCHW, change, place_BCHW)
        if result is None:
            result = x_BCHW + torch.sigmoid(change).add_(0.5).mul_(change)
            if place_BCHW is not None:
                place_BCHW.copy_(result)
        return result


def _is_recorded() -> bool:
    """Whether operations are recorded, for gradients or a graph; otherwise results may be overwritten."""
    return torch.is_grad_enabled() or torch.compiler.is_compiling() or is_exporting()


def _conv(channels: int, expansion: int) -> nn.Conv2d | RepConv3x3:
    return RepConv3x3(channels, channels, expansion) if expansion else conv3x3(channels, channels)


def _initialise(layer: nn.Conv2d | RepConv3x3, **options: Any) -> None:
    """He's initialisation of a kernel, without a bias."""
    nn.init.kaiming_normal_(layer.weight, **options)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
