from __future__ import annotations

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from restore.analysis.cost import cost_of, count_parameters, image_cost
from restore.leaderboard.organisers import Complexity
from restore.networks.ipt import IPT
from restore.networks.swinir import SwinIR
from restore.networks.uformer import Uformer


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
        assert Complexity.of(Rlfn()) == Complexity(0.317218, 19.67485952, 80.045184, 39)


def test_closed_forms():
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.PixelShuffle(2), nn.ConvTranspose2d(2, 3, 2, stride=2))
    cost = image_cost(network, height=16, width=8)
    assert cost.macs == 16 * 8 * 8 * 27 + 32 * 16 * 2 * 3 * 4
    assert cost.macs_by_operator == {"convolution": cost.macs}
    assert cost.activations == 16 * 8 * 8 + 64 * 32 * 3
    assert cost.num_convs == 2
    assert cost.parameters == count_parameters(network) == 8 * 27 + 8 + 2 * 3 * 4 + 3


class Function(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *inputs):
        return self.function(*inputs)


def macs(function, *shapes, dtype=torch.float32):
    return cost_of(Function(function), *(torch.rand(shape, dtype=dtype) for shape in shapes)).macs


@pytest.mark.parametrize(
    ("norm", "each"),
    [
        (nn.GroupNorm(1, 3), 5),
        (nn.GroupNorm(1, 3, affine=False), 4),
        (nn.LayerNorm(8), 5),
        (nn.LayerNorm(8, elementwise_affine=False), 4),
        (nn.BatchNorm2d(3), 0),
        (nn.GELU(), 0),
    ],
    ids=str,
)
def test_elements(norm, each):
    assert image_cost(norm, height=8).macs == each * 3 * 64


def test_products():
    assert macs(torch.matmul, (2, 5, 3), (2, 3, 7)) == 2 * 5 * 3 * 7
    assert macs(torch.matmul, (5, 3), (3,)) == macs(torch.matmul, (3,), (3, 5)) == 5 * 3
    assert macs(torch.dot, (7,), (7,)) == 7
    assert macs(lambda a, b: torch.einsum("bnc,bmc->bnm", a, b), (2, 5, 3), (2, 7, 3)) == 2 * 5 * 3 * 7
    assert macs(torch.matmul, (5, 3), (3, 7), dtype=torch.complex64) == 4 * 5 * 3 * 7
    assert macs(F.conv1d, (2, 4, 9), (8, 4, 3)) == 2 * 7 * 8 * 4 * 3


@pytest.mark.parametrize("backend", [SDPBackend.MATH, SDPBackend.FLASH_ATTENTION], ids=str)
def test_attention_counts_whatever_computes_it(backend):
    def attend(q, k, v):
        with sdpa_kernel(backend):
            return F.scaled_dot_product_attention(q, k, v)

    assert macs(attend, (2, 4, 10, 16), (2, 4, 12, 16), (2, 4, 12, 16)) == 2 * 4 * 10 * 12 * (16 + 16)


def test_fourier_transforms():
    n, m = 16, 8
    full = n * m * (math.log2(n) + math.log2(m))
    assert macs(torch.fft.fft2, (3, n, m), dtype=torch.complex64) == 2 * 3 * full
    assert macs(torch.fft.rfft2, (3, n, m)) == 3 * full
    assert macs(lambda x: torch.fft.irfft2(x, s=(n, m)), (3, n, m // 2 + 1), dtype=torch.complex64) == 3 * full
    assert macs(torch.fft.fft, (3, n), dtype=torch.complex64) == 3 * 2 * n * 4
    assert macs(lambda x: x * x, (3, n), dtype=torch.complex64) == 0


@pytest.mark.parametrize("rows", [4, 40])  # torch computes few and many distances in two ways
@pytest.mark.parametrize("p", [1.0, 2.0])
def test_distances(rows, p):
    assert macs(lambda a, b: torch.cdist(a, b, p), (3, rows, 5), (3, 50, 5)) == 3 * rows * 50 * 5
    assert macs(F.pdist, (6, 5)) == 15 * 5


def test_sampling_and_resizing():
    def sample(mode):
        return lambda x, grid: F.grid_sample(x, grid, mode=mode, align_corners=False)

    for mode, each in {"bilinear": 4, "nearest": 0, "bicubic": 16}.items():
        assert macs(sample(mode), (2, 3, 8, 8), (2, 5, 6, 2)) == each * 2 * 3 * 5 * 6
    assert macs(lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"), (2, 3, 4, 4)) == 4 * 2 * 3 * 64
    assert macs(lambda x: F.interpolate(x, scale_factor=2, mode="nearest"), (2, 3, 4, 4)) == 0


@pytest.mark.parametrize("groups", [1, 2])
def test_deformable_convolution(groups):
    ops = pytest.importorskip("torchvision.ops")
    convolution = ops.DeformConv2d(4, 6, 3, groups=groups)
    cost = cost_of(convolution, torch.rand(2, 4, 8, 8), torch.zeros(2, 18, 6, 6))
    assert cost.macs == 2 * 36 * (6 * 4 // groups * 9 + 4 * 4 * 9)


def test_gathers_cost_no_products_but_are_counted():
    index = torch.tensor([0, 2, 2])

    def moved(function, *shapes):
        cost = cost_of(Function(function), *map(torch.rand, shapes))
        assert cost.macs == 0
        return cost.gathered

    assert moved(lambda x: x.index_select(1, index), (2, 5, 7)) == 2 * 3 * 7
    assert moved(lambda x: x[:, index], (2, 5, 7)) == 2 * 3 * 7
    assert moved(lambda x: x.gather(1, index[None, :, None].expand(2, 3, 7)), (2, 5, 7)) == 2 * 3 * 7
    assert moved(lambda x: F.embedding(index, x), (5, 7)) == 3 * 7
    assert moved(lambda x, y: x.scatter_add(0, index[:, None].expand(3, 7), y), (5, 7), (3, 7)) == 3 * 7
    assert moved(lambda x, y: x.index_add(0, index, y), (5, 7), (3, 7)) == 3 * 7
    assert moved(lambda x, y: x.index_put((index,), y), (5, 7), (3, 7)) == 3 * 7
    assert moved(lambda x: x[:, 1:3].transpose(0, 1), (2, 5, 7)) == 0


@pytest.mark.parametrize(
    "make",
    [
        lambda: SwinIR(embed_dim=12, depths=[2], num_heads=[2], window_size=8, img_size=16, upscale=1),
        lambda: Uformer(embed_dim=8, num_heads=[1] * 9, modulator=True, cross_modulator=True),
        lambda: IPT(n_feats=8, num_layers=1, num_heads=2),
    ],
    ids=["SwinIR", "Uformer", "IPT"],
)
def test_a_network_without_memory_costs_the_same(make):
    network = make()
    with torch.device("meta"):
        nowhere = make()
    here, there = (image_cost(each, height=64 if isinstance(network, SwinIR) else 96) for each in (network, nowhere))
    names = ("parameters", "macs", "activations", "num_convs")
    assert [getattr(here, name) for name in names] == [getattr(there, name) for name in names]


def test_a_view_of_what_is_learned_may_be_given_to_a_part():
    class Queries(nn.Module):
        def __init__(self):
            super().__init__()
            self.queries, self.linear = nn.Parameter(torch.rand(3, 5)), nn.Linear(5, 7)

        def forward(self, x):
            return self.linear(self.queries.expand(2, -1, -1)) + x

    network = Queries()
    network.linear.bias.requires_grad_(False)
    assert cost_of(network, torch.zeros(1)).macs == 2 * 3 * 5 * 7
    assert [each.requires_grad for each in network.parameters()] == [True, True, False]


def test_the_network_is_left_as_it_was():
    network = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Dropout()).train()
    network[1].eval()
    image_cost(network, height=4)
    assert (network.training, network[0].training, network[1].training) == (True, True, False)
    assert not network[0]._forward_hooks


def test_an_error_inside_leaves_it_as_it_was_too():
    network = nn.Conv2d(4, 3, 1).train()
    with pytest.raises(RuntimeError):
        image_cost(network, height=4)
    assert network.training
    assert not network._forward_hooks
