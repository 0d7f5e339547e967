"""Packed linear maps give what autocast gives, also of parts of weights and of weights that have changed."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from restore.inference import Restorer
from restore.inference.packing import PackedLinear
from restore.networks.ipt import IPT

pytestmark = pytest.mark.skipif(not PackedLinear.is_available(), reason="oneDNN does not multiply bfloat16 here")


class Maps(nn.Module):
    """A whole weight, two parts of one, a small one, and one that is computed."""

    def __init__(self):
        super().__init__()
        self.first, self.small = nn.Linear(160, 192), nn.Linear(192, 8)
        self.both = nn.Parameter(torch.randn(2 * 160, 192) / 14)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner = self.first(x)
        sides = F.linear(inner, self.both[:160]) - F.linear(inner, weight=self.both[160:])
        return F.linear(sides, self.first.weight * 0.5) + inner + self.small(inner).mean()


def packs(mode: PackedLinear) -> int:
    return len(mode._packs)


def run(network: nn.Module, x: torch.Tensor, mode: PackedLinear | None = None) -> torch.Tensor:
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        if mode is None:
            return network(x).float()
        with mode:
            return network(x).float()


@pytest.fixture
def network() -> Maps:
    torch.manual_seed(0)
    return Maps()


def test_as_autocast_within_the_rounding_of_its_results(network):
    mode, x = PackedLinear(network), torch.randn(2, 9, 160)
    expected = run(network, x)
    assert (run(network, x, mode) - expected).abs().max() <= 2**-6 * expected.abs().max()
    assert packs(mode) == 3  # neither the small one nor the computed one
    run(network, torch.randn(5, 160), mode)
    assert packs(mode) == 3


def test_weights_that_change_are_packed_anew(network):
    mode, x = PackedLinear(network), torch.randn(7, 160)
    before = run(network, x, mode)
    with torch.no_grad():
        network.both.mul_(-1)
        network.first.load_state_dict({"weight": torch.randn(192, 160) / 12, "bias": torch.zeros(192)})
    expected = run(network, x)
    assert (run(network, x, mode) - expected).abs().max() <= 2**-6 * expected.abs().max()
    assert (before - expected).abs().max() > 0.1
    assert packs(mode) == 3


def by_data(network: Maps) -> None:
    network.both.data.mul_(-1)


def by_a_fused_optimizer(network: Maps) -> None:
    network.both.grad = torch.randn_like(network.both)
    torch.optim.AdamW([network.both], lr=0.5, fused=True).step()


@pytest.mark.parametrize("change", [by_data, by_a_fused_optimizer])
def test_changes_that_torch_does_not_count_are_seen(network, change):
    mode, x = PackedLinear(network), torch.randn(7, 160)
    before, version = run(network, x, mode), network.both._version
    change(network)
    assert network.both._version == version
    expected = run(network, x)
    assert (run(network, x, mode) - expected).abs().max() <= 2**-6 * expected.abs().max()
    assert (before - expected).abs().max() > 0.1


def test_nothing_is_packed_where_gradients_are_wanted_or_numbers_are_float32(network):
    mode, x = PackedLinear(network), torch.randn(3, 160)
    with mode, torch.autocast("cpu", torch.bfloat16):
        network(x).float().sum().backward()
    assert network.both.grad is not None
    with mode, torch.no_grad():
        assert torch.equal(network(x), network.eval()(x))
    assert packs(mode) == 0
    assert mode.is_idle


@pytest.mark.parametrize("shape", [(0, 160), (160,), (2, 0, 160)])
def test_empty_and_single_rows(network, shape):
    expected = run(network.first, torch.zeros(shape))
    given = run(network.first, torch.zeros(shape), PackedLinear(network))
    assert given.shape == expected.shape
    torch.testing.assert_close(given, expected, rtol=2**-6, atol=0.01)


def test_a_restorer_packs_ipt_in_bfloat16_only():
    torch.manual_seed(0)
    network = IPT(scale=[2], patch_size=24, n_feats=16, num_heads=4, num_layers=1)
    image = torch.rand(1, 3, 24, 24)
    restorer = Restorer(network, device="cpu", precision="bf16", tile=None)
    result = restorer(image)
    assert packs(restorer._packed[torch.bfloat16]) > 4
    assert packs(copy.deepcopy(restorer)._packed[torch.bfloat16]) == 0
    assert (copy.deepcopy(restorer)(image) - result).abs().max() < 1e-6
    restorer._packed[torch.bfloat16].is_idle = True
    assert 0 < (restorer(image) - result).abs().max() < 0.03  # the order of sums, rounded
    exact = Restorer(network, device="cpu", precision="fp32", tile=None)
    exact(image)
    assert packs(exact._packed[torch.bfloat16]) == 0
