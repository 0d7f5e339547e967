"""Discriminators, which tell restored from real images: VGGStyleDiscriminator, UNetDiscriminatorSN and DUnet.

- VGGStyleDiscriminator: one score for each image, ESRGAN (Wang et al. 2018, arXiv 1809.00219).
- UNetDiscriminatorSN: one score for each pixel, Real-ESRGAN (Wang et al. 2021, arXiv 2107.10833), with spectral
  normalisation (Miyato et al. 2018, arXiv 1802.05957).
- DUnet: the same by sampling at learned places (DySample, Liu et al. 2023, arXiv 2308.15085), of traiNNer-redux
  (the-database/traiNNer-redux, Apache-2.0), whose keys it has. Needs spandrel (`[foreign]`), whose layer it samples by.

Argument names, defaults, state-dict keys and outputs of the others are those of BasicSR 1.4.2 (XPixelGroup/BasicSR,
Apache-2.0). What differs: the U-Net takes sizes that are no multiple of 8, and RGB is the default everywhere.

Shapes: B batch, H x W image.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations, spectral_norm

from restore.errors import MissingError
from restore.networks.residual import conv3x3
from restore.registry import DISCRIMINATORS

__all__ = ["DUnet", "UNetDiscriminatorSN", "VGGStyleDiscriminator"]

LAST_SIDE_PX = 4
HIDDEN = 100


@DISCRIMINATORS.add()
class VGGStyleDiscriminator(nn.Module):
    """Scores (B, 1), unbounded, for images of one size: real where high.

    Args:
        num_in_ch: channels of the image.
        num_feat: channels at full resolution; doubled with each halving of the size, up to eight times.
        input_size: side of the images in pixels.
    """

    def __init__(self, num_in_ch: int = 3, num_feat: int = 64, input_size: Literal[128, 256] = 128):
        super().__init__()
        self.input_size = input_size
        widths = [num_feat * factor for factor in (1, 2, 4, 8, 8, 8)[: 6 if input_size == 256 else 5]]
        self.num_levels = len(widths)
        for level, width in enumerate(widths):
            before = widths[level - 1] if level else num_in_ch
            setattr(self, f"conv{level}_0", nn.Conv2d(before, width, 3, padding=1, bias=level == 0))
            if level:
                setattr(self, f"bn{level}_0", nn.BatchNorm2d(width))
            setattr(self, f"conv{level}_1", nn.Conv2d(width, width, 4, stride=2, padding=1, bias=False))
            setattr(self, f"bn{level}_1", nn.BatchNorm2d(width))
        self.linear1 = nn.Linear(widths[-1] * LAST_SIDE_PX**2, HIDDEN)
        self.linear2 = nn.Linear(HIDDEN, 1)

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """The score of each image, (B, 1).

        Raises:
            ValueError: images of another size than `input_size`.
        """
        if x_BCHW.shape[-2:] != (self.input_size, self.input_size):
            height, width = x_BCHW.shape[-2:]
            raise ValueError(
                f"VGGStyleDiscriminator is made for images of {self.input_size}x{self.input_size} px, given "
                f"{height}x{width}: set gt_size to {self.input_size}, or take UNetDiscriminatorSN."
            )
        features = x_BCHW
        for level in range(self.num_levels):
            for step in (0, 1):
                features = self.get_submodule(f"conv{level}_{step}")(features)
                if level or step:
                    features = self.get_submodule(f"bn{level}_{step}")(features)
                features = F.leaky_relu(features, 0.2)
        return self.linear2(F.leaky_relu(self.linear1(features.flatten(1)), 0.2))


@DISCRIMINATORS.add()
class UNetDiscriminatorSN(nn.Module):
    """Scores (B, 1, H, W), unbounded, for images of at least 8 x 8 px: real where high.

    Args:
        num_in_ch: channels of the image.
        num_feat: channels at full resolution.
        skip_connection: whether the way up sees the maps of the way down.
    """

    def __init__(self, num_in_ch: int = 3, num_feat: int = 64, skip_connection: bool = True):
        super().__init__()
        self.skip_connection = skip_connection
        self.conv0 = conv3x3(num_in_ch, num_feat)
        for index in (1, 2, 3):
            self._add_normalised(
                index, nn.Conv2d(num_feat * 2 ** (index - 1), num_feat * 2**index, 4, 2, 1, bias=False)
            )
        for index, (inputs, outputs) in enumerate(((8, 4), (4, 2), (2, 1), (1, 1), (1, 1)), start=4):
            self._add_normalised(index, nn.Conv2d(num_feat * inputs, num_feat * outputs, 3, padding=1, bias=False))
        self.conv9 = conv3x3(num_feat, 1)

    def _add_normalised(self, index: int, convolution: nn.Conv2d) -> None:
        self.add_module(f"conv{index}", spectral_norm(convolution))

    def _convs(self, *indices: int) -> list[nn.Module]:
        return [self.get_submodule(f"conv{index}") for index in indices]

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """The score of each pixel, (B, 1, H, W).

        Raises:
            ValueError: images smaller than 8 px.
        """
        if min(x_BCHW.shape[-2:]) < 8:
            raise ValueError(f"UNetDiscriminatorSN needs at least 8x8 px, given {tuple(x_BCHW.shape[-2:])}")
        downward = [_activate(self.conv0(x_BCHW))]
        for conv in self._convs(1, 2, 3):
            downward.append(_activate(conv(downward[-1])))
        features = downward.pop()
        for conv in self._convs(4, 5, 6):
            finer = downward.pop()
            features = F.interpolate(features, finer.shape[-2:], mode="bilinear", align_corners=False)
            features = _activate(conv(features))
            if self.skip_connection:
                features = features + finer
        conv7, conv8, conv9 = self._convs(7, 8, 9)
        return conv9(_activate(conv8(_activate(conv7(features)))))


def _activate(features: torch.Tensor) -> torch.Tensor:
    return F.leaky_relu(features, 0.2)


@DISCRIMINATORS.add()
class DUnet(nn.Module):
    """Scores (B, 1, H, W), unbounded, for images whose sides are multiples of 8 px: real where high.

    Args:
        num_in_ch: channels of the image.
        num_feat: channels at full resolution, a multiple of 4.

    Raises:
        MissingError: spandrel is not installed.
    """

    def __init__(self, num_in_ch: int = 3, num_feat: int = 64):
        super().__init__()
        try:
            from spandrel.architectures.__arch_helpers.dysample import DySample
        except ImportError:
            raise MissingError("DUnet samples by a layer of spandrel: pip install 'restore-toolkit[foreign]'") from None
        normalised = parametrizations.spectral_norm
        self.in_to_dim = conv3x3(num_in_ch, num_feat)
        for level in (1, 2, 3):
            inner, outer = num_feat * 2 ** (level - 1), num_feat * 2**level
            down = nn.Sequential(normalised(nn.Conv2d(inner, outer, 3, 2, 1)), nn.Mish())
            up = nn.Sequential(DySample(outer, outer, 2, 4, False), normalised(conv3x3(outer, inner)))
            self.add_module(f"e_x{level}", down)
            self.add_module(f"up{4 - level}", up)
        convs = [normalised(nn.Conv2d(num_feat, num_feat, 3, padding=1, bias=False)) for _ in range(2)]
        self.end_conv = nn.Sequential(convs[0], nn.Mish(), convs[1], nn.Mish(), conv3x3(num_feat, 1))

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """The score of each pixel, (B, 1, H, W).

        Raises:
            ValueError: images of other sizes.
        """
        if any(side % 8 for side in x_BCHW.shape[-2:]):
            height, width = x_BCHW.shape[-2:]
            raise ValueError(f"DUnet takes sides that are multiples of 8 px, given {height}x{width}: change gt_size.")
        downward = [self.in_to_dim(x_BCHW)]
        for level in (1, 2, 3):
            downward.append(self.get_submodule(f"e_x{level}")(downward[-1]))
        features = downward.pop()
        for step in (1, 2, 3):
            features = self.get_submodule(f"up{step}")(features) + downward.pop()
        return self.end_conv(features)
