"""Paths beside each other, and what is left of them."""

from __future__ import annotations

import pytest
import torch

from restore.networks.elastic.pruning import importances, paths_by_place, pruned
from restore.registry import NETWORKS

MIXERS = [{"type": "window", "num_heads": 2, "window_size": 4}, "gated_conv", "pooling"]
BLOCK = {
    "type": "MetaFormerRestorer",
    "embed_dim": 8,
    "depths": [2, 1],
    "mixers": [{"type": "paths", "mixers": MIXERS}, {"type": "paths", "mixers": MIXERS[:2]}],
    "drop_path_rate": 0.0,
}


@pytest.fixture
def network():
    torch.manual_seed(0)
    made = NETWORKS.build(BLOCK).double().eval()
    with torch.no_grad():
        for mixers in paths_by_place(made):
            for mixer in mixers:
                for number in range(len(mixer.paths)):
                    mixer.factors(number).uniform_(0.2, 0.8)
    return made


def zeroed(network, place, number):
    with torch.no_grad():
        for mixer in paths_by_place(network)[place]:
            mixer.factors(number).zero_()


def outputs(network, kept):
    block, state = pruned(network, BLOCK, kept)
    assert NETWORKS.check(block, "network_g") == []
    left = NETWORKS.build(block).double().eval()
    left.load_state_dict(state)
    x = torch.rand(1, 3, 10, 13, dtype=torch.float64)
    with torch.no_grad():
        return block, left(x), network(x)


def test_paths_with_factors_of_zero_leave_the_output_as_it_is(network):
    for place, number in ((0, 0), (0, 2), (1, 1)):
        zeroed(network, place, number)
    sizes = importances(network)
    assert [at for at, size in sizes.items() if size == 0] == [(0, 0), (0, 2), (1, 1)]
    block, found, wanted = outputs(network, [[1], [0]])
    assert block["mixers"] == [MIXERS[1], MIXERS[0]]  # the factors are in the projections
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10)


def test_several_may_stay_and_what_has_no_projection_keeps_its_factors(network):
    zeroed(network, 0, 1)
    block, found, wanted = outputs(network, [[0, 2], [0, 1]])
    assert block["mixers"][0] == {"type": "paths", "mixers": [MIXERS[0], MIXERS[2]]}
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10)
    zeroed(network, 0, 0)
    block, found, wanted = outputs(network, [[2], [0, 1]])
    assert block["mixers"][0] == {"type": "paths", "mixers": ["pooling"]}
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10)


def test_what_counts_is_missed(network):
    before = {name: each.clone() for name, each in network.state_dict().items()}
    _, found, wanted = outputs(network, [[0], [0]])
    assert (found - wanted).abs().max() > 1e-6
    assert all(torch.equal(each, before[name]) for name, each in network.state_dict().items())
    means = [float(each.factors(1).detach().mean()) for each in paths_by_place(network)[0]]
    assert importances(network)[0, 1] == pytest.approx(sum(means) / 2)
