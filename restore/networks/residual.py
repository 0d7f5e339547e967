"""Super-resolution by residual convolutions: MSRResNet, EDSR and RCAN.

- MSRResNet: SRResNet (Ledig et al. 2017, arXiv 1609.04802) without batch normalisation, as in BasicSR.
- EDSR: Lim et al. 2017, arXiv 1707.02921.
- RCAN: Zhang et al. 2018, arXiv 1807.02758.

Argument names, defaults, state-dict keys and outputs are those of BasicSR 1.4.2, github.com/XPixelGroup/BasicSR
(Apache-2.0), so its option files and weights serve unchanged. What differs: the mean of the colours is a buffer (it
moves with the network, and is not saved), images need not have three channels, and RGB in and out have defaults
everywhere.

Shapes: B batch, C num_feat, H x W image, s upscale.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import nn

from restore.layers.convolution import PixelShuffleUpsampler, enlarged
from restore.networks.base import Network, State
from restore.networks.spec import ImageSpec
from restore.registry import NETWORKS

__all__ = ["EDSR", "RCAN", "MSRResNet", "conv3x3", "shrink_"]

RGB_MEAN = (0.4488, 0.4371, 0.4040)
EDSR_LARGE = 256
"""Width from which the published EDSR scales its residuals by 0.1."""


def conv3x3(inputs: int, outputs: int) -> nn.Conv2d:
    """A 3x3 convolution that keeps the size."""
    return nn.Conv2d(inputs, outputs, 3, padding=1)


def shrink_(*convolutions: nn.Conv2d, factor: float = 0.1) -> None:
    """He initialisation times `factor`, biases zero: residual branches that start close to nothing."""
    for convolution in convolutions:
        nn.init.kaiming_normal_(convolution.weight)
        with torch.no_grad():
            convolution.weight.mul_(factor)
        if convolution.bias is not None:
            nn.init.zeros_(convolution.bias)


class _ResidualBlock(nn.Module):
    """Two convolutions and the identity, without normalisation."""

    def __init__(self, channels: int, res_scale: float = 1.0):
        super().__init__()
        self.res_scale = res_scale
        self.conv1 = conv3x3(channels, channels)
        self.conv2 = conv3x3(channels, channels)

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        return x_BCHW + self.conv2(F.relu(self.conv1(x_BCHW))) * self.res_scale


@NETWORKS.add()
class MSRResNet(Network):
    """SRResNet without batch normalisation, on top of a bilinear enlargement.

    Args:
        num_in_ch: channels of the input.
        num_out_ch: channels of the output: `num_in_ch`, or any number for a grey input.
        num_feat: C.
        num_block: residual blocks.
        upscale: s.
    """

    def __init__(
        self,
        num_in_ch: int = 3,
        num_out_ch: int = 3,
        num_feat: int = 64,
        num_block: int = 16,
        upscale: Literal[2, 3, 4] = 4,
    ):
        super().__init__()
        self.upscale = upscale
        factor = 2 if upscale == 4 else upscale
        self.conv_first = conv3x3(num_in_ch, num_feat)
        self.body = nn.Sequential(*(_ResidualBlock(num_feat) for _ in range(num_block)))
        self.upconv1 = conv3x3(num_feat, num_feat * factor**2)
        if upscale == 4:
            self.upconv2 = conv3x3(num_feat, num_feat * factor**2)
        self.pixel_shuffle = nn.PixelShuffle(factor)
        self.conv_hr = conv3x3(num_feat, num_feat)
        self.conv_last = conv3x3(num_feat, num_out_ch)
        for block in self.body:
            assert isinstance(block, _ResidualBlock)
            shrink_(block.conv1, block.conv2)
        shrink_(self.conv_first, *self._upconvs, self.conv_hr, self.conv_last)

    @property
    def _upconvs(self) -> list[nn.Conv2d]:
        return [self.upconv1, self.upconv2] if self.upscale == 4 else [self.upconv1]

    @property
    def spec(self) -> ImageSpec:
        """What the network wants of its images."""
        precisions = ("fp32", "bf16", "fp16")
        return ImageSpec(self.upscale, self.conv_first.in_channels, self.conv_last.out_channels, precisions=precisions)

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """(B, num_in_ch, H, W) in [0, 1] to (B, num_out_ch, H*s, W*s)."""
        features = self.body(F.leaky_relu(self.conv_first(x_BCHW), 0.1))
        for upconv in self._upconvs:
            features = F.leaky_relu(self.pixel_shuffle(upconv(features)), 0.1)
        residual = self.conv_last(F.leaky_relu(self.conv_hr(features), 0.1))
        return residual + enlarged(x_BCHW, self.upscale, "bilinear")

    @classmethod
    def recognise(cls, state: State) -> dict[str, Any] | None:
        """The constructor\'s arguments."""
        if not {"conv_first.weight", "body.0.conv1.weight", "upconv1.weight", "conv_hr.weight"} <= set(state):
            return None
        common = _common(state)
        factor = round((len(state["upconv1.weight"]) / common["num_feat"]) ** 0.5)
        upscale = 4 if "upconv2.weight" in state else factor
        return {**common, "num_block": _numbered(state, "body."), "upscale": upscale}


class _MeanShifted(Network):
    """What EDSR and RCAN share: centred input, a body with a long skip connection, and enlargement at the end.

    Args:
        body: the residual blocks or groups.
        rgb_mean: taken off the input and put back; for other than three channels, its mean serves every channel.

    Raises:
        ValueError: another number of channels at the end than at the start, or a mean of another length.
    """

    mean: torch.Tensor

    def __init__(
        self,
        body: Sequence[nn.Module],
        num_in_ch: int,
        num_out_ch: int,
        num_feat: int,
        upscale: int,
        img_range: float,
        rgb_mean: Sequence[float],
    ):
        super().__init__()
        if num_in_ch != num_out_ch:
            raise ValueError(f"num_in_ch and num_out_ch must be equal, given {num_in_ch} and {num_out_ch}")
        if len(rgb_mean) == len(RGB_MEAN) != num_in_ch:
            rgb_mean = [sum(rgb_mean) / len(rgb_mean)] * num_in_ch
        if len(rgb_mean) != num_in_ch:
            raise ValueError(f"rgb_mean has {len(rgb_mean)} values for {num_in_ch} channels")
        self.upscale, self.img_range = upscale, img_range
        self.register_buffer("mean", torch.tensor(rgb_mean).view(1, -1, 1, 1), persistent=False)
        self.conv_first = conv3x3(num_in_ch, num_feat)
        self.body = nn.Sequential(*body)
        self.conv_after_body = conv3x3(num_feat, num_feat)
        self.upsample = PixelShuffleUpsampler(upscale, num_feat)
        self.conv_last = conv3x3(num_feat, num_out_ch)

    @property
    def spec(self) -> ImageSpec:
        """What the network wants of its images."""
        return ImageSpec(self.upscale, self.conv_first.in_channels, self.conv_last.out_channels)

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """(B, num_in_ch, H, W) in [0, 1] to (B, num_out_ch, H*s, W*s)."""
        mean = self.mean.to(x_BCHW.dtype)
        shallow = self.conv_first((x_BCHW - mean) * self.img_range)
        deep = self.conv_after_body(self.body(shallow)) + shallow
        return self.conv_last(self.upsample(deep)) / self.img_range + mean


@NETWORKS.add()
class EDSR(_MeanShifted):
    """Enhanced deep super-resolution.

    Args:
        num_in_ch: channels of the image.
        num_out_ch: the same.
        num_feat: C.
        num_block: residual blocks.
        upscale: s; a power of two, or 3.
        res_scale: factor of each residual; 0.1 in the large model.
        img_range: the network works on values in [0, img_range].
        rgb_mean: colour taken off the input and put back.
    """

    def __init__(
        self,
        num_in_ch: int = 3,
        num_out_ch: int = 3,
        num_feat: int = 64,
        num_block: int = 16,
        upscale: int = 4,
        res_scale: float = 1.0,
        img_range: float = 255.0,
        rgb_mean: Sequence[float] = RGB_MEAN,
    ):
        body = [_ResidualBlock(num_feat, res_scale) for _ in range(num_block)]
        super().__init__(body, num_in_ch, num_out_ch, num_feat, upscale, img_range, rgb_mean)

    @classmethod
    def recognise(cls, state: State) -> dict[str, Any] | None:
        """The constructor's arguments; `res_scale` is not in the weights: the published one of each width is taken."""
        if not {"conv_first.weight", "body.0.conv1.weight", "conv_after_body.weight", "conv_last.weight"} <= set(state):
            return None
        common = _common(state)
        return {
            **common,
            "num_block": _numbered(state, "body."),
            "upscale": _upscale(state, common["num_feat"]),
            "res_scale": 0.1 if common["num_feat"] >= EDSR_LARGE else 1.0,
        }


@NETWORKS.add()
class RCAN(_MeanShifted):
    """Residual channel attention network.

    Channel attention looks at the mean of the whole image: restored in tiles, an image comes out slightly different.

    Args:
        num_in_ch: channels of the image.
        num_out_ch: the same.
        num_feat: C.
        num_group: residual groups.
        num_block: channel attention blocks in each group.
        squeeze_factor: C over the width inside the channel attention.
        upscale: s; a power of two, or 3.
        res_scale: factor of each residual.
        img_range: the network works on values in [0, img_range].
        rgb_mean: colour taken off the input and put back.
    """

    def __init__(
        self,
        num_in_ch: int = 3,
        num_out_ch: int = 3,
        num_feat: int = 64,
        num_group: int = 10,
        num_block: int = 16,
        squeeze_factor: int = 16,
        upscale: int = 4,
        res_scale: float = 1.0,
        img_range: float = 255.0,
        rgb_mean: Sequence[float] = RGB_MEAN,
    ):
        if squeeze_factor > num_feat:
            raise ValueError(f"squeeze_factor {squeeze_factor} leaves nothing of num_feat {num_feat}")
        body = [_AttentionGroup(num_feat, num_block, squeeze_factor, res_scale) for _ in range(num_group)]
        super().__init__(body, num_in_ch, num_out_ch, num_feat, upscale, img_range, rgb_mean)

    @classmethod
    def recognise(cls, state: State) -> dict[str, Any] | None:
        """The constructor\'s arguments."""
        squeeze = state.get("body.0.residual_group.0.rcab.3.attention.1.weight")
        if squeeze is None or "conv_first.weight" not in state:
            return None
        common = _common(state)
        return {
            **common,
            "num_group": _numbered(state, "body."),
            "num_block": _numbered(state, "body.0.residual_group."),
            "squeeze_factor": common["num_feat"] // squeeze.shape[0],
            "upscale": _upscale(state, common["num_feat"]),
        }


class _AttentionGroup(nn.Module):
    """Channel attention blocks, a convolution, and the identity."""

    def __init__(self, channels: int, num_block: int, squeeze_factor: int, res_scale: float):
        super().__init__()
        blocks = (_AttentionBlock(channels, squeeze_factor, res_scale) for _ in range(num_block))
        self.residual_group = nn.Sequential(*blocks)
        self.conv = conv3x3(channels, channels)

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        return x_BCHW + self.conv(self.residual_group(x_BCHW))


class _AttentionBlock(nn.Module):
    """A residual block whose channels are weighted by their means over the image."""

    def __init__(self, channels: int, squeeze_factor: int, res_scale: float):
        super().__init__()
        self.res_scale = res_scale
        convolutions = (conv3x3(channels, channels), nn.ReLU(), conv3x3(channels, channels))
        self.rcab = nn.Sequential(*convolutions, _ChannelAttention(channels, channels // squeeze_factor))

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        return x_BCHW + self.rcab(x_BCHW) * self.res_scale


class _ChannelAttention(nn.Module):
    """Each channel times a weight in (0, 1) that follows from the means of all channels."""

    def __init__(self, channels: int, squeezed: int):
        super().__init__()
        weigh = (nn.Conv2d(channels, squeezed, 1), nn.ReLU(), nn.Conv2d(squeezed, channels, 1), nn.Sigmoid())
        self.attention = nn.Sequential(nn.AdaptiveAvgPool2d(1), *weigh)

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        return x_BCHW * self.attention(x_BCHW)


def _common(state: State) -> dict[str, Any]:
    num_feat, num_in_ch = state["conv_first.weight"].shape[:2]
    return {"num_in_ch": num_in_ch, "num_out_ch": state["conv_last.weight"].shape[0], "num_feat": num_feat}


def _numbered(state: State, prefix: str) -> int:
    return len({key.removeprefix(prefix).split(".")[0] for key in state if key.startswith(prefix)})


def _upscale(state: State, num_feat: int) -> int:
    first = state.get("upsample.0.weight")
    if first is not None and first.shape[0] == 9 * num_feat:
        return 3
    return 2 ** sum(key.startswith("upsample.") and key.endswith("weight") for key in state)
