"""Every registered network is one of ours, says what it is, and is told from all others."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from restore.errors import CheckpointError
from restore.networks import ImageSpec, Network
from restore.networks.checkpoint import infer, load_weights
from restore.registry import NETWORKS, QUALITY


@pytest.mark.parametrize("name", NETWORKS.names())
def test_every_network_is_recognised_by_itself_alone(name):
    network = NETWORKS.get(name)
    with torch.device("meta"):
        built = network(**network.example)
    assert isinstance(built, Network)
    assert isinstance(built.spec, ImageSpec)
    assert built.spec.out_channels > 0
    state = built.state_dict()
    if network.telltale:
        assert network.telltale in state
        with pytest.raises(CheckpointError, match=f"seem to be of {name}, whose parts no key tells"):
            infer(state)
        return
    assert [other for other in NETWORKS if _recognises(other, state)] == [name]
    assert [other for other in NETWORKS if NETWORKS.get(other).telltale in state] == []


def _recognises(name, state) -> bool:
    try:
        return NETWORKS.get(name).recognise(state) is not None
    except (ArithmeticError, LookupError, ValueError):
        return False


@pytest.mark.parametrize("name", ["IQT", "TRIQ"])
def test_quality_models_are_named_where_their_block_is_missing(name):
    state = QUALITY.build({"type": name, "encoder": "conv_pyramid"}).state_dict()
    with pytest.raises(CheckpointError, match=f"seem to be of {name}, whose parts no key tells"):
        infer(state)


class Gridded(nn.Module):
    """A part with an entry that follows from its size."""

    derived_keys = ("grid",)

    def __init__(self, side: int):
        super().__init__()
        self.register_buffer("grid", torch.arange(side))
        self.weight = nn.Parameter(torch.ones(1))


class Pair(Network):
    """Two parts, of which one says that its grid is derived."""

    def __init__(self, side: int):
        super().__init__()
        self.first = Gridded(side)
        self.second = nn.Module()
        self.second.register_buffer("grid", torch.arange(side))

    @property
    def spec(self):
        return ImageSpec()

    def forward(self, x_BCHW):
        return x_BCHW


def test_derived_entries_may_be_missing_or_of_another_size():
    network, state = Pair(4), Pair(4).state_dict()
    del state["first.grid"]
    assert load_weights(network, state) == []
    assert load_weights(network, {**state, "first.inner.grid": torch.zeros(9)}) == []
    with pytest.raises(CheckpointError, match=r"1 missing: second\.grid"):
        load_weights(network, {key: value for key, value in state.items() if key != "second.grid"})
    with pytest.raises(CheckpointError, match=r"1 unexpected: third\.grid"):
        load_weights(network, {**state, "third.grid": torch.zeros(9)})


def test_what_a_network_has_by_default():
    network = Pair(2)
    state = network.state_dict()
    assert not network.tasks
    assert network.task_spec(0) == network.spec
    assert network.own_branch(state) is state
    assert Pair.recognise(state) is None
