"""Networks small enough to reason about."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from restore.networks import ImageSpec


class Enlarge(nn.Module):
    """Nearest-neighbour enlargement: what goes in can be found again in what comes out. It keeps the shapes it saw."""

    def __init__(self, scale=2, channels=3, **spec):
        super().__init__()
        self.spec = ImageSpec(scale=scale, in_channels=channels, out_channels=channels, **spec)
        self.seen = []

    def forward(self, x):
        self.seen.append(tuple(x.shape))
        return F.interpolate(x, scale_factor=self.spec.scale, mode="nearest")


class Deep(nn.Module):
    """A residual network of 3x3 convolutions that sees 2 * depth + 1 pixels, zero-padded, so it feels its borders."""

    def __init__(self, scale=2, depth=16, width=12, **spec):
        super().__init__()
        torch.manual_seed(0)
        self.spec = ImageSpec(scale=scale, **spec)
        sizes = [3, *[width] * (depth - 1), 3 * scale**2]
        self.layers = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in itertools.pairwise(sizes))

    def forward(self, x):
        y = x
        for layer in self.layers[:-1]:
            y = F.gelu(layer(y))
        y = F.pixel_shuffle(self.layers[-1](y), self.spec.scale)
        return F.interpolate(x, scale_factor=self.spec.scale, mode="bilinear") + y


class TileSigned(nn.Module):
    """Adds a number that depends on the whole tile, so that any tile in the wrong place or weight shows."""

    def __init__(self, scale=1, **spec):
        super().__init__()
        self.spec = ImageSpec(scale=scale, **spec)

    def forward(self, x):
        signature = x.mean((-2, -1), keepdim=True) + x[:, :, :1, :1] * x[:, :, -1:, -1:]
        return F.interpolate(x + signature, scale_factor=self.spec.scale, mode="bilinear")


@pytest.fixture
def enlarge():
    return Enlarge


@pytest.fixture
def deep():
    return Deep


@pytest.fixture
def tile_signed():
    return TileSigned


@pytest.fixture(autouse=True)
def _one_thread(one_thread):
    """In all tests of this folder."""
