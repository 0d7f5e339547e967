"""The generators of ESRGAN and Real-ESRGAN: RRDBNet, and the compact SRVGGNetCompact.

- RRDBNet: Wang et al. 2018, arXiv 1809.00219; with pixel-unshuffle for x2 and x1, Wang et al. 2021, arXiv 2107.10833.
- SRVGGNetCompact: the small network of Real-ESRGAN's animation models, Wang et al. 2021, arXiv 2107.10833.

Argument names, defaults, state-dict keys and outputs are those of BasicSR 1.4.2, github.com/XPixelGroup/BasicSR
(Apache-2.0). What differs: RRDBNet at x2 and x1 takes sizes that are no multiple of 2 or 4, and RGB in and out have
defaults.

Shapes: B batch, C num_feat, H x W image, s scale.
"""

from __future__ import annotations

import re
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import nn

from restore.layers.padding import pad_to_multiple
from restore.networks.base import Network, State
from restore.networks.residual import conv3x3, shrink_
from restore.networks.spec import ImageSpec
from restore.registry import NETWORKS

__all__ = ["RRDBNet", "SRVGGNetCompact"]

BODY_SCALE = 4
"""What RRDBNet enlarges by; for smaller scales the input is folded into channels first."""
RESIDUAL_SCALE = 0.2
PRECISIONS = ("fp32", "bf16", "fp16")


@NETWORKS.add()
class RRDBNet(Network):
    """Residual-in-residual dense blocks.

    Args:
        num_in_ch: channels of the input.
        num_out_ch: channels of the output.
        scale: s.
        num_feat: C.
        num_block: residual-in-residual dense blocks.
        num_grow_ch: channels that each convolution of a dense block adds.
    """

    def __init__(
        self,
        num_in_ch: int = 3,
        num_out_ch: int = 3,
        scale: Literal[1, 2, 4] = 4,
        num_feat: int = 64,
        num_block: int = 23,
        num_grow_ch: int = 32,
    ):
        super().__init__()
        self.scale, self.fold = scale, BODY_SCALE // scale
        self.conv_first = conv3x3(num_in_ch * self.fold**2, num_feat)
        self.body = nn.Sequential(*(_TripleDenseBlock(num_feat, num_grow_ch) for _ in range(num_block)))
        self.conv_body = conv3x3(num_feat, num_feat)
        self.conv_up1 = conv3x3(num_feat, num_feat)
        self.conv_up2 = conv3x3(num_feat, num_feat)
        self.conv_hr = conv3x3(num_feat, num_feat)
        self.conv_last = conv3x3(num_feat, num_out_ch)

    @property
    def spec(self) -> ImageSpec:
        """What the network wants of its images."""
        return ImageSpec(
            scale=self.scale,
            in_channels=self.conv_first.in_channels // self.fold**2,
            out_channels=self.conv_last.out_channels,
            size_multiple=self.fold,
            precisions=PRECISIONS,
        )

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """(B, num_in_ch, H, W) in [0, 1] to (B, num_out_ch, H*s, W*s)."""
        height, width = x_BCHW.shape[2:]
        shallow = self.conv_first(F.pixel_unshuffle(pad_to_multiple(x_BCHW, self.fold), self.fold))
        features = shallow + self.conv_body(self.body(shallow))
        for conv in (self.conv_up1, self.conv_up2):
            features = F.leaky_relu(conv(F.interpolate(features, scale_factor=2, mode="nearest")), 0.2)
        image = self.conv_last(F.leaky_relu(self.conv_hr(features), 0.2))
        return image[:, :, : height * self.scale, : width * self.scale]

    @classmethod
    def recognise(cls, state: State) -> dict[str, Any] | None:
        """The constructor\'s arguments."""
        dense = state.get("body.0.rdb1.conv1.weight")
        if dense is None or not {"conv_first.weight", "conv_up1.weight", "conv_last.weight"} <= set(state):
            return None
        num_feat, folded = state["conv_first.weight"].shape[:2]
        num_out_ch = len(state["conv_last.weight"])
        scale = {4: 2, 16: 1}.get(folded // num_out_ch, 4)
        return {
            "num_in_ch": folded * scale**2 // BODY_SCALE**2,
            "num_out_ch": num_out_ch,
            "scale": scale,
            "num_feat": num_feat,
            "num_block": len({key.split(".")[1] for key in state if key.startswith("body.")}),
            "num_grow_ch": len(dense),
        }


class _TripleDenseBlock(nn.Module):
    """Three dense blocks in a residual: the published RRDB."""

    def __init__(self, num_feat: int, num_grow_ch: int):
        super().__init__()
        self.rdb1 = _DenseBlock(num_feat, num_grow_ch)
        self.rdb2 = _DenseBlock(num_feat, num_grow_ch)
        self.rdb3 = _DenseBlock(num_feat, num_grow_ch)

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        return x_BCHW + self.rdb3(self.rdb2(self.rdb1(x_BCHW))) * RESIDUAL_SCALE


class _DenseBlock(nn.Module):
    """Five convolutions, each of which sees the outputs of all before it."""

    conv1: nn.Conv2d
    conv2: nn.Conv2d
    conv3: nn.Conv2d
    conv4: nn.Conv2d
    conv5: nn.Conv2d

    def __init__(self, num_feat: int, num_grow_ch: int):
        super().__init__()
        for index in range(1, 6):
            outputs = num_feat if index == 5 else num_grow_ch
            convolution = conv3x3(num_feat + (index - 1) * num_grow_ch, outputs)
            shrink_(convolution)
            setattr(self, f"conv{index}", convolution)

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        features = [x_BCHW]
        for conv in (self.conv1, self.conv2, self.conv3, self.conv4):
            features.append(F.leaky_relu(conv(torch.cat(features, 1)), 0.2))
        return x_BCHW + self.conv5(torch.cat(features, 1)) * RESIDUAL_SCALE


@NETWORKS.add()
class SRVGGNetCompact(Network):
    """A plain stack of convolutions at the input's size, on top of an enlargement by repetition.

    Args:
        num_in_ch: channels of the image.
        num_out_ch: the same.
        num_feat: C.
        num_conv: convolutions between the first and the last.
        upscale: s.
        act_type: activation after every convolution but the last.

    Raises:
        ValueError: another number of channels at the end than at the start.
    """

    def __init__(
        self,
        num_in_ch: int = 3,
        num_out_ch: int = 3,
        num_feat: int = 64,
        num_conv: int = 16,
        upscale: int = 4,
        act_type: Literal["relu", "prelu", "leakyrelu"] = "prelu",
    ):
        super().__init__()
        if num_in_ch != num_out_ch:
            raise ValueError(f"num_in_ch and num_out_ch must be equal, given {num_in_ch} and {num_out_ch}")
        self.upscale, self.num_in_ch = upscale, num_in_ch
        self.body = nn.ModuleList()
        for index in range(num_conv + 1):
            self.body.append(conv3x3(num_feat if index else num_in_ch, num_feat))
            self.body.append(_activation(act_type, num_feat))
        self.body.append(conv3x3(num_feat, num_out_ch * upscale**2))
        self.upsampler = nn.PixelShuffle(upscale)

    @property
    def spec(self) -> ImageSpec:
        """What the network wants of its images."""
        return ImageSpec(self.upscale, self.num_in_ch, self.num_in_ch, precisions=PRECISIONS)

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """(B, num_in_ch, H, W) in [0, 1] to (B, num_in_ch, H*s, W*s)."""
        features = x_BCHW
        for layer in self.body:
            features = layer(features)
        return self.upsampler(features) + F.interpolate(x_BCHW, scale_factor=self.upscale, mode="nearest")

    @classmethod
    def recognise(cls, state: State) -> dict[str, Any] | None:
        """The constructor's arguments; "relu" and "leakyrelu" leave no trace in the weights: "relu" is taken."""
        if not state or not all(re.fullmatch(r"body\.\d+\.(weight|bias)", key) for key in state):
            return None
        weights = [value for key, value in state.items() if key.endswith("weight") and value.ndim == 4]
        if len(weights) < 2 or "body.0.weight" not in state:
            return None
        num_feat, channels = weights[0].shape[:2]
        return {
            "num_in_ch": channels,
            "num_out_ch": channels,
            "num_feat": num_feat,
            "num_conv": len(weights) - 2,
            "upscale": round((len(weights[-1]) / channels) ** 0.5),
            "act_type": "prelu" if "body.1.weight" in state else "relu",
        }


def _activation(kind: str, channels: int) -> nn.Module:
    if kind == "prelu":
        return nn.PReLU(channels)
    return nn.ReLU() if kind == "relu" else nn.LeakyReLU(0.1)
