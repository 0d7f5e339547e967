"""RepSGD and RepAdamW: plain convolutions end where sums of branches do."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn
from training_runs import resumed_bit_by_bit

from restore.errors import OptionsError
from restore.layers.rep_optimized import ScaledBranches
from restore.training.optimizers import build_optimizer
from restore.training.rep_optimizers import multiplier

CHANNELS, STRIDES = [(3, 6), (6, 6), (6, 6), (6, 4)], (1, 1, 1, 2)


def stack(s=None, t=None):
    """A row of convolutions as branches with constant factors, and as plain ones with the same kernels."""
    torch.manual_seed(0)
    branches, plain, place = [], [], 0
    for number, (channels, stride) in enumerate(zip(CHANNELS, STRIDES, strict=True)):
        place = place + 1 if number and channels == CHANNELS[number - 1] else 0
        made = ScaledBranches(*channels, stride).double()
        for scale, given in ((made.scale_conv, s), (made.scale_1x1, t)):
            usual = math.sqrt(2 / place) if place else 1.0
            nn.init.constant_(scale.weight, usual if given is None else given).requires_grad_(False)
            scale.weight.requires_grad_(False)
        one = nn.Conv2d(*channels, 3, stride, 1, bias=False).double()
        one.weight.data.copy_(made.kernel())
        branches += [made, nn.Tanh()]
        plain += [one, nn.Tanh()]
    return nn.Sequential(*branches), nn.Sequential(*plain)


def trained(network, optimizer, steps=40):
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(4, 3, 8, 10, dtype=torch.float64, generator=draw)
    y = torch.randn(4, 4, 4, 5, dtype=torch.float64, generator=draw)
    for _ in range(steps):
        optimizer.zero_grad()
        (network(x) - y).square().mean().backward()
        optimizer.step()


def difference(branches, plain):
    kernels = [each.kernel() for each in branches if isinstance(each, ScaledBranches)]
    ours = [each.weight for each in plain if isinstance(each, nn.Conv2d)]
    return max((one - two).abs().max().item() for one, two in zip(kernels, ours, strict=True))


def learned(network):
    return [each for each in network.parameters() if each.requires_grad]


@pytest.mark.parametrize(("s", "t"), [(None, None), (0.7, 1.3), (-0.5, 2.0), (1.0, 0.0)])
@pytest.mark.parametrize(
    "options", [{"momentum": 0.0}, {"momentum": 0.9, "nesterov": True, "weight_decay": 1e-2}, {"weight_decay": 0.1}]
)
def test_sgd_is_exact(s, t, options):
    branches, plain = stack(s, t)
    options = {"momentum": 0.9, **options}
    trained(branches, torch.optim.SGD(learned(branches), lr=0.05, **options))
    trained(plain, build_optimizer({"type": "RepSGD", "lr": 0.05, "scale_conv": s, "scale_1x1": t, **options}, plain))
    assert difference(branches, plain) < 1e-13
    _, other = stack(s, t)
    trained(other, torch.optim.SGD(other.parameters(), lr=0.05, **options))
    assert difference(branches, other) > 1e-3, "a plain optimizer does the same"


@pytest.mark.parametrize(("s", "t"), [(None, None), (0.7, 1.3), (-0.5, 2.0)])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_adamw_is_exact_up_to_eps(s, t, decay):
    branches, plain = stack(s, t)
    options = {"lr": 1e-3, "weight_decay": decay, "eps": 1e-30}
    trained(branches, torch.optim.AdamW(learned(branches), **options))
    trained(plain, build_optimizer({"type": "RepAdamW", "scale_conv": s, "scale_1x1": t, **options}, plain))
    assert difference(branches, plain) < 1e-12
    _, other = stack(s, t)
    trained(other, torch.optim.AdamW(other.parameters(), **options))
    assert difference(branches, other) > 1e-3


def test_the_multiplier():
    weight = torch.zeros(2, 2, 3, 3)
    factor = multiplier(weight, 3.0, 0.5, identity=True, power=2)
    assert factor[0, 0, 1, 1] == 9 + 0.25 + 1
    assert factor[0, 1, 1, 1] == 9 + 0.25
    factor[:, :, 1, 1] = 9
    assert torch.equal(factor, torch.full_like(weight, 9))
    assert multiplier(torch.zeros(2, 3, 5, 5), -3.0, 0.5, identity=False, power=1)[0, 0, 2, 2] == 3.5


@pytest.mark.parametrize(("rep", "plain"), [("RepSGD", "SGD"), ("RepAdamW", "AdamW")])
def test_all_else_learns_as_it_does(rep, plain):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1, groups=4), nn.Conv2d(4, 4, 1))
    other = copy.deepcopy(network)
    for each, name in ((network, rep), (other, plain)):
        optimizer = build_optimizer({"type": name, "lr": 1e-2, "weight_decay": 0.1}, each)
        draw = torch.Generator().manual_seed(1)
        for parameter in each.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=draw)
        optimizer.step()
    for (name, ours), theirs in zip(network.named_parameters(), other.parameters(), strict=True):
        assert torch.allclose(ours, theirs) == (name != "0.weight"), name


def test_a_network_without_convolutions_is_refused():
    with pytest.raises(OptionsError, match=r"train\.optim_g.*RepSGD is for plain convolutions"):
        build_optimizer({"type": "RepSGD", "lr": 1e-2}, nn.Linear(3, 3))


@pytest.mark.parametrize("name", ["RepSGD", "RepAdamW"])
def test_a_run_goes_on_bit_by_bit(option_file, tmp_path, name):
    network = "network_g={type: RepConvSR, num_feat: 4, num_block: 1, upscale: 2, expansion: 0}"
    root = tmp_path / "experiments/tiny"
    assert resumed_bit_by_bit(option_file, root, 6, network, f"train.optim_g={{type: {name}, lr: 1e-3}}")
