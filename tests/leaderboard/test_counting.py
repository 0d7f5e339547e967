from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from restore.leaderboard.counting import count


def conv(inputs, outputs, side=3, **arguments):
    return nn.Conv2d(inputs, outputs, side, **({"padding": side // 2} | arguments))


class SpatialAttention(nn.Module):
    def __init__(self, width, inner=16):
        super().__init__()
        self.squeeze, self.skip = conv(width, inner, 1), conv(inner, inner, 1)
        self.stride, self.inside = conv(inner, inner, stride=2, padding=0), conv(inner, inner)
        self.expand = conv(inner, width, 1)

    def forward(self, x):
        small = self.squeeze(x)
        y = self.inside(F.max_pool2d(self.stride(small), 7, 3))
        y = F.interpolate(y, x.shape[2:], mode="bilinear")
        return x * self.expand(y + self.skip(small)).sigmoid()


class Block(nn.Module):
    def __init__(self, width, middle):
        super().__init__()
        sizes = [width, middle, middle, width]
        self.convs = nn.ModuleList(conv(a, b) for a, b in itertools.pairwise(sizes))
        self.last, self.attention = conv(width, width, 1), SpatialAttention(width)

    def forward(self, x):
        y = x
        for layer in self.convs:
            y = F.leaky_relu(layer(y), 0.05)
        return self.attention(self.last(y + x))


class Rlfn(nn.Module):
    """The baseline of 2024 (Kong et al. 2022, arXiv 2205.07514) in the organisers' widths, 46 and 48."""

    def __init__(self):
        super().__init__()
        self.first, self.body = conv(3, 46), nn.Sequential(*[Block(46, 48) for _ in range(4)])
        self.after, self.last = conv(46, 46), conv(46, 48)

    def forward(self, x):
        shallow = self.first(x)
        return F.pixel_shuffle(self.last(self.after(self.body(shallow)) + shallow), 4)


def test_the_published_figures_of_the_baseline_to_the_last_digit():
    with torch.device("meta"):
        cost = count(Rlfn())
    assert cost.params_m == 0.317218
    assert cost.flops_g == 19.67485952
    assert cost.activations_m == 80.045184
    assert cost.num_conv == 39


def test_closed_forms():
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.PixelShuffle(2), nn.ConvTranspose2d(2, 3, 2, stride=2))
    cost = count(network, side_px=16)
    assert cost.flops_g * 1e9 == pytest.approx(16 * 16 * 8 * 27 + 32 * 32 * 2 * 3 * 4)
    assert cost.activations_m * 1e6 == pytest.approx(16 * 16 * 8 + 64 * 64 * 3)
    assert cost.num_conv == 2
    assert cost.params_m * 1e6 == pytest.approx(8 * 27 + 8 + 2 * 3 * 4 + 3)


@pytest.mark.parametrize(("norm", "each"), [(nn.GroupNorm(1, 3), 5), (nn.GroupNorm(1, 3, affine=False), 4)])
def test_norms(norm, each):
    assert count(norm, side_px=8).flops_g * 1e9 == pytest.approx(each * 3 * 64)


@pytest.mark.parametrize("affine", [True, False])
def test_layer_norm(affine):
    norm = nn.LayerNorm(8, elementwise_affine=affine)
    assert count(norm, side_px=8).flops_g * 1e9 == pytest.approx((5 if affine else 4) * 3 * 64)


def test_attention_written_with_functions_counts():
    class Attend(nn.Module):
        def forward(self, x):
            tokens = x.flatten(2).transpose(1, 2)
            return F.scaled_dot_product_attention(*[tokens[:, None]] * 3)

    assert count(Attend(), side_px=8).flops_g * 1e9 == pytest.approx(2 * 64 * 64 * 3)


def test_the_network_is_left_as_it_was():
    network = nn.Conv2d(3, 3, 1).train()
    count(network, side_px=4)
    assert network.training
    assert not network._forward_hooks
