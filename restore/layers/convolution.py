"""Convolutional parts of restoration networks, with the key names that EDSR and SwinIR gave to the field."""

from __future__ import annotations

import math

from torch import nn

__all__ = ["PixelShuffleUpsampler", "residual_conv"]


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
