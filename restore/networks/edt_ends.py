"""Head and tail of EDT: convolutions that take an image to the body's width, and back (see `restore.networks.edt`).

Shapes: B batch, C channels, H x W map.
"""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import nn

from restore.layers.convolution import PixelShuffleUpsampler

__all__ = ["Head", "ResidualConvs", "Tail", "tail_end"]


class Head(nn.ModuleList):
    """A convolution, levels of twice the width each, and a convolution to the body's width."""

    def __init__(self, in_chans: int, num_feat: int, embed_dim: int, depth: int, halve: bool):
        widths = [num_feat * 2**level for level in range(depth + 1)]
        super().__init__(
            [
                nn.Conv2d(in_chans, num_feat, 3, padding=1),
                *(HeadLevel(width, halve) for width in widths[:-1]),
                nn.Conv2d(widths[-1], embed_dim, 3, padding=1),
            ]
        )

    def forward(self, x_BCHW: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """The map for the body, and one of each level for the tail."""
        first, *levels, last = self
        x = first(x_BCHW)
        skips = []
        for level in levels:
            skip, x = level(x)
            skips.append(skip)
        return last(x), skips


class Tail(nn.ModuleList):
    """Levels that take the head's maps back, then the modules that make the image."""

    def __init__(self, num_feat: int, embed_dim: int, depth: int, double: bool, end: list[nn.Module]):
        widths = [embed_dim, *(num_feat * 2**level for level in range(depth, 0, -1))]
        super().__init__([*(SkipLevel(i, o, double) for i, o in itertools.pairwise(widths)), *end])

    def forward(self, x_BCHW: torch.Tensor, skips: list[torch.Tensor]) -> torch.Tensor:
        """The image, (B, C, H, W)."""
        modules = list(self)
        for level, skip in zip(modules, reversed(skips), strict=False):
            x_BCHW = level(x_BCHW, skip)
        for module in modules[len(skips) :]:
            x_BCHW = module(x_BCHW)
        return x_BCHW


class SkipLevel(nn.Module):
    """Narrows a map (and doubles its size if asked to), joins a map of the head, and convolves both."""

    def __init__(self, in_channels: int, out_channels: int, double: bool):
        super().__init__()
        if double:
            self.up = nn.ConvTranspose2d(in_channels, out_channels, 2, stride=2)
        else:
            self.conv = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.doubles = double
        self.block = ResidualConvs(2 * out_channels, out_channels, out_channels)

    def forward(self, x_BCHW: torch.Tensor, skip_BCHW: torch.Tensor) -> torch.Tensor:
        x_BCHW = self.up(x_BCHW) if self.doubles else self.conv(x_BCHW)
        return self.block(torch.cat([x_BCHW, skip_BCHW], dim=1))


class _Convs(nn.Module):
    """Two 3 x 3 convolutions beside a 1 x 1 convolution."""

    def __init__(self, in_channels: int, hidden: int, out_channels: int):
        super().__init__()
        self.conv_1 = nn.Conv2d(in_channels, hidden, 3, padding=1)
        self.conv_2 = nn.Conv2d(hidden, out_channels, 3, padding=1)
        self.shortcut = nn.Conv2d(in_channels, out_channels, 1)

    def convolved(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """The sum of both ways."""
        hidden = F.leaky_relu(self.conv_1(x_BCHW), 0.2)
        return F.leaky_relu(self.conv_2(hidden), 0.2) + self.shortcut(x_BCHW)


class ResidualConvs(_Convs):
    """Both ways from one map to another."""

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W)."""
        return self.convolved(x_BCHW)


class HeadLevel(_Convs):
    """Twice the width: gives the map that the tail wants back, and the next level's input: the same, or its half."""

    def __init__(self, width: int, halve: bool):
        super().__init__(width, width, 2 * width)
        self.conv_down = nn.Conv2d(2 * width, 2 * width, 4, stride=2, padding=1, bias=False) if halve else None

    def forward(self, x_BCHW: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        skip = self.convolved(x_BCHW)
        return skip, skip if self.conv_down is None else self.conv_down(skip)


def tail_end(width: int, channels: int, scale: int | None, upsampler: str) -> list[nn.Module]:
    """What makes the image: from super-resolution's width, or for other tasks (no scale) one convolution."""
    if scale is None:
        return [nn.Conv2d(width, channels, 3, padding=1)]
    if upsampler == "pixelshuffle":
        return [PixelShuffleUpsampler(scale, width), nn.Conv2d(width, channels, 3, padding=1)]
    direct = nn.Sequential(nn.Conv2d(width, scale**2 * channels, 3, padding=1), nn.PixelShuffle(scale))
    return [direct, nn.Identity()]
