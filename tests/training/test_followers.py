"""The moving average: parameters averaged, buffers copied, one update at a time."""

from __future__ import annotations

import copy

import pytest
import torch

from restore.training.followers import Follower


def test_closed_form(network):
    start = copy.deepcopy(network)
    follower = Follower(network, 0.75)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(1)
        network.norm.running_mean.fill_(7)
        network.norm.num_batches_tracked.fill_(3)
    for _ in range(4):
        follower.update()
    for mean, first, now in zip(follower.network.parameters(), start.parameters(), network.parameters(), strict=True):
        torch.testing.assert_close(mean, now + (first - now) * 0.75**4)
    assert follower.network.norm.running_mean.eq(7).all()
    assert follower.network.norm.num_batches_tracked.item() == 3
    assert follower.num_updates == 4


def test_warm_up_follows_quickly_at_first(network):
    follower = Follower(network, 0.999, warmup=True)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    follower.update()
    first = follower.network.first.weight.abs().max().item()
    torch.manual_seed(0)
    assert first == pytest.approx(0.1 * type(network)().first.weight.abs().max().item(), rel=1e-5)


@pytest.mark.parametrize("power", [10, 0.75])
def test_a_power_lets_it_follow_at_first(network, power):
    """The decay of update t is 1 - (1 + t)^-power, at most `decay`."""
    follower = Follower(network, 0.99, power=power)
    weight, expected = network.first.weight, 0.0
    with torch.no_grad():
        for update in range(6):
            weight.fill_(float(update + 1))
            follower.update()
            decay = min(0.99, 1 - (1 + update) ** -power)
            expected = decay * expected + (1 - decay) * (update + 1)
            torch.testing.assert_close(follower.network.first.weight, torch.full_like(weight, expected))


def test_the_average_is_for_evaluation(network):
    follower = Follower(network.train(), 0.9)
    assert not follower.network.training
    assert not any(parameter.requires_grad for parameter in follower.network.parameters())
    assert network.training


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_decays_that_cannot_be(network, decay):
    with pytest.raises(ValueError, match="decay of a moving average"):
        Follower(network, decay)
