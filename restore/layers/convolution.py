"""Convolutional parts of restoration networks, with the key names that EDSR and SwinIR gave to the field."""

from __future__ import annotations

import copy
import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

__all__ = ["PixelShuffleUpsampler", "Reconstruction", "enlarged", "residual_conv"]


def enlarged(x_BCHW: torch.Tensor, scale: int, mode: Literal["bilinear", "bicubic"]) -> torch.Tensor:
    """(B, C, H * scale, W * scale): the interpolated image that a network adds what it has learnt to.

    "bicubic" is PyTorch's, with a = -0.75, which is a little sharper than MATLAB's with a = -0.5.
    """
    return F.interpolate(x_BCHW, scale_factor=scale, mode=mode, align_corners=False)


class PixelShuffleUpsampler(nn.Sequential):
    """`scale` times larger at the same width: a 3x3 convolution and a shuffle for each factor of 2, or one for 3.

    The convolutions stand at the even indices (`0`, `2`, ...); scale 1 is the empty sequence.

    Raises:
        ValueError: `scale` is neither 3 nor a power of two.
    """

    def __init__(self, scale: int, channels: int):
        if scale == 3:
            factors = [3]
        elif scale >= 1 and scale & (scale - 1) == 0:
            factors = [2] * int(math.log2(scale))
        else:
            raise ValueError(f"cannot up-sample {scale} times: the scale is 3 or a power of two")
        steps: list[nn.Module] = []
        for factor in factors:
            steps += [nn.Conv2d(channels, factor**2 * channels, 3, padding=1), nn.PixelShuffle(factor)]
        super().__init__(*steps)


def residual_conv(dim: int, kind: str) -> nn.Module:
    """The convolution at the end of a group of blocks: "1conv", or "3conv" with a quarter of the width inside."""
    if kind == "1conv":
        return nn.Conv2d(dim, dim, 3, padding=1)
    return nn.Sequential(
        nn.Conv2d(dim, dim // 4, 3, padding=1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(dim // 4, dim // 4, 1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(dim // 4, dim, 3, padding=1),
    )


class Reconstruction(nn.Module):
    """From deep features to the image, in the ways of SwinIR.

    Args:
        dim: channels of the features.
        channels: channels of the image.
        scale: of the image to the features.
        kind: "pixelshuffle" (classical), "pixelshuffledirect" (lightweight), "nearest+conv" (real-world), or "" (the
            input plus a convolution, at scale 1).
        num_feat: width between the features and the image.

    Raises:
        ValueError: the scale is not among those of the kind.
    """

    def __init__(self, dim: int, channels: int, scale: int, kind: str, num_feat: int = 64):
        super().__init__()
        self.residual = kind == ""
        if self.residual != (scale == 1):
            raise ValueError(f"upsampler '{kind}' does not fit upscale {scale}: '' is for 1, the others for more")
        before: list[nn.Module] = [nn.Conv2d(dim, num_feat, 3, padding=1), nn.LeakyReLU(0.01)]
        last = nn.Conv2d(num_feat, channels, 3, padding=1)
        steps: list[nn.Module]
        if kind == "":
            steps = [nn.Conv2d(dim, channels, 3, padding=1)]
        elif kind == "pixelshuffledirect":
            steps = [nn.Conv2d(dim, scale**2 * channels, 3, padding=1), nn.PixelShuffle(scale)]
        elif kind == "pixelshuffle":
            steps = [*before, PixelShuffleUpsampler(scale, num_feat), last]
        else:
            if scale & (scale - 1):
                raise ValueError(f"upscale must be a power of two with upsampler 'nearest+conv', given {scale}")
            double = (nn.Upsample(scale_factor=2), nn.Conv2d(num_feat, num_feat, 3, padding=1), nn.LeakyReLU(0.2))
            doubles = [copy.deepcopy(step) for _ in range(int(math.log2(scale))) for step in double]
            steps = [*before, *doubles, nn.Conv2d(num_feat, num_feat, 3, padding=1), nn.LeakyReLU(0.2), last]
        self.steps = nn.Sequential(*steps)

    @torch.no_grad()
    def start_at_zero(self) -> None:
        """Let the last convolution give 0, so that a network starts as what it is added to."""
        last = [step for step in self.steps if isinstance(step, nn.Conv2d)][-1]
        for parameter in last.parameters():
            parameter.zero_()

    def forward(self, features_BCHW: torch.Tensor, image_BCHW: torch.Tensor) -> torch.Tensor:
        """The image; `image_BCHW` is the input, which only the residual kind needs."""
        output = self.steps(features_BCHW)
        return image_BCHW + output if self.residual else output
