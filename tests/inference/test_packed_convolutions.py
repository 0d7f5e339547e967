"""A `Restorer` computes convolutions of 3 x 3 from packed weights, and keeps channels innermost where that pays."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from restore.inference import Restorer
from restore.inference.packing import PackedConvolution
from restore.layers.compiled.library import is_usable
from restore.networks.repconv import RepConvSR
from restore.networks.residual import EDSR
from restore.networks.spec import ImageSpec
from restore.networks.swinir import SwinIR

needs_library = pytest.mark.skipif(not is_usable(), reason="the compiled library is not there")


class Convolutions(nn.Module):
    """Three that are taken, and five that are not."""

    def __init__(self):
        super().__init__()
        self.taken = nn.ModuleList(
            [
                nn.Conv2d(32, 48, 3, padding=1),
                nn.Conv2d(48, 32, (3, 3), padding="same", bias=False),
                nn.Conv2d(32, 32, 3, 1, (1, 1), (1, 1)),
            ]
        )
        self.left = nn.ModuleList(
            [
                nn.Conv2d(32, 32, 3, padding=1, groups=2),
                nn.Conv2d(32, 32, 3, padding=2, dilation=2),
                nn.Conv2d(32, 32, 3, padding=1, padding_mode="reflect"),
                nn.Conv2d(32, 32, 5, padding=2),
                nn.Conv2d(32, 32, 3, padding=1, stride=2),
            ]
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in (*self.taken, *self.left):
            x = layer(x)
        return torch.nn.functional.conv2d(x, self.taken[2].weight * 0.5, padding=1)  # a weight that is computed


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    network = Convolutions()
    nn.utils.convert_conv2d_weight_memory_format(network, torch.channels_last)
    return network


def run(network: nn.Module, x: torch.Tensor, mode: PackedConvolution | None = None) -> torch.Tensor:
    with torch.no_grad():
        if mode is None:
            return network(x)
        with mode:
            return network(x)


def apart(a: torch.Tensor, b: torch.Tensor) -> float:
    return ((a - b).abs().max() / b.abs().max()).item()


@needs_library
def test_only_plain_convolutions_of_three_by_three_are_taken(network):
    mode, x = PackedConvolution(network), torch.randn(2, 32, 41, 33).contiguous(memory_format=torch.channels_last)
    expected, found = run(network, x), run(network, x, mode)
    assert found.stride() == expected.stride()
    assert 0 < apart(found, expected) < 3e-6
    assert [each.weight.shape for each in mode._packs.values()] == [each.weight.shape for each in network.taken]
    run(network, x, mode)
    assert len(mode._packs) == 3


@needs_library
@pytest.mark.parametrize("change", ["counted", "by data"])
def test_weights_that_change_are_packed_anew(network, change):
    mode, x = PackedConvolution(network), torch.randn(1, 32, 41, 33).contiguous(memory_format=torch.channels_last)
    before = run(network, x, mode)
    weight = network.taken[1].weight
    with torch.no_grad():
        (weight if change == "counted" else weight.data).mul_(-1.5)
    expected = run(network, x)
    assert apart(run(network, x, mode), expected) < 3e-6
    assert apart(before, expected) > 0.1
    assert len(mode._packs) == 3


def test_nothing_is_packed_for_gradients_in_bfloat16_and_with_channels_outside(network):
    mode, x = PackedConvolution(network), torch.randn(1, 32, 41, 33)
    with mode:
        network(x).sum().backward()
    with mode, torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        network(x)
    outside = Convolutions()
    run(outside, x, mode)
    assert not mode._packs
    assert mode.is_idle


def innermost(restorer: Restorer) -> set[bool]:
    weights = [layer.weight for layer in restorer.network.modules() if isinstance(layer, nn.Conv2d)]
    return {weight.is_contiguous(memory_format=torch.channels_last) for weight in weights if weight.shape[1] > 1}


class Theirs(nn.Module):
    """A convolutional network of somebody else, which looks at its maps in the usual layout."""

    spec = ImageSpec(1, 3, 3)

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 32, 3, padding=1), nn.Conv2d(32, 3, 3, padding=1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features = self.layers[0](x)
        return self.layers[1](features.view(len(x), 32, -1).view(features.shape))


def test_channels_are_innermost_in_convolutional_networks_of_this_package():
    torch.manual_seed(0)
    small = {"num_feat": 32, "num_block": 2}
    assert innermost(Restorer(EDSR(3, 3, **small), device="cpu")) == {True}
    assert innermost(Restorer(EDSR(3, 3, **small), device="cpu", channels_last=False)) == {False}
    assert False in innermost(Restorer(SwinIR(depths=[2], num_heads=[2], embed_dim=12, upscale=1), device="cpu"))
    theirs = Restorer(Theirs(), device="cpu")
    assert innermost(theirs) == {False}
    assert theirs(torch.rand(1, 3, 20, 20)).shape == (1, 3, 20, 20)


@needs_library
@pytest.mark.parametrize("unshuffle", [1, 2])
def test_the_layout_changes_the_order_of_sums_alone(unshuffle):
    torch.manual_seed(0)
    network = RepConvSR(num_feat=32, num_block=2, upscale=2, expansion=0, unshuffle=unshuffle).eval()
    nn.init.normal_(network.conv_last.weight, std=0.05)
    image = torch.rand(1, 3, 33, 50)

    def restored(precision: str, channels_last: bool | None) -> torch.Tensor:
        one = copy.deepcopy(network)
        return Restorer(one, device="cpu", precision=precision, channels_last=channels_last, tile=None)(image)

    exact = restored("fp32", False)
    assert (restored("fp32", None) - exact).abs().max() < 1e-5
    usual, innermost = ((restored("bf16", last) - exact).abs().mean() for last in (False, None))
    assert innermost < 1.1 * usual


@needs_library
def test_a_restorer_packs_in_float32_and_copies_without_its_packs():
    torch.manual_seed(0)
    restorer = Restorer(EDSR(3, 3, num_feat=32, num_block=2), device="cpu", precision="fp32", tile=None)
    image = torch.rand(1, 3, 32, 32)
    result = restorer(image)
    packed = restorer._packed[torch.float32]
    assert len(packed._packs) >= 5
    other = copy.deepcopy(restorer)
    assert not other._packed[torch.float32]._packs
    assert torch.equal(other(image), result)


@needs_library
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_network_that_somebody_compiled_keeps_its_own_weights(precision):
    """Graphs are traced without numbers: what is packed then would be anything."""
    torch.manual_seed(0)
    network = EDSR(3, 3, num_feat=32, num_block=2).eval()
    image = torch.rand(1, 3, 32, 32)
    expected = Restorer(network, device="cpu", precision=precision, tile=None)(image)
    graph = torch.compile(network, backend="eager")
    found = Restorer(graph, device="cpu", precision=precision, tile=None)(image)  # type: ignore[arg-type]
    assert (found - expected).abs().max() < (1e-5 if precision == "fp32" else 0.03)
