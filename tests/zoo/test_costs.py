from __future__ import annotations

import dataclasses
import json

import pytest
from torch import nn

from restore.analysis.cost import image_cost
from restore.cli import main
from restore.errors import OptionsError
from restore.layers.mixers import Mixer
from restore.registry import ENCODERS, MIXERS, NETWORKS
from restore.zoo import build_model, find_card
from restore.zoo.components import list_components
from restore.zoo.costs import component_costs, count_encoder, counted_encoder, model_cost


class Linear(Mixer):
    def __init__(self, dim: int):
        super().__init__(dim, size_multiple=(1, 56))
        self.proj = nn.Linear(dim, dim, bias=False)

    def mix(self, x_BHWC):
        return x_BHWC


class Needy(Linear):
    def __init__(self, dim: int, needed: int):
        super().__init__(dim)


@pytest.fixture
def two_mixers(monkeypatch):
    monkeypatch.setattr(MIXERS, "names", lambda: ["linear", "needy"])
    monkeypatch.setattr(MIXERS, "_components", {"linear": Linear, "needy": Needy})


def test_mixers_are_counted_on_a_map_that_they_take(two_mixers):
    costs = component_costs("mixer")
    assert costs["linear"].parameters == 60 * 60
    assert costs["linear"].macs == 96 * 112 * 60 * 60
    assert costs["needy"] is None


def test_every_mixer_is_counted_with_its_defaults():
    costs = component_costs("mixer")
    assert len(costs) > 20
    assert [name for name, cost in costs.items() if cost is None] == []
    assert {name for name, cost in costs.items() if not cost.macs} == {"identity", "pooling"}


def test_networks_and_encoders_are_counted_with_their_defaults(monkeypatch):
    monkeypatch.setattr(NETWORKS, "names", lambda: ["SRVGGNetCompact"])
    monkeypatch.setattr(ENCODERS, "names", lambda: ["conv_pyramid", "timm"])
    assert component_costs("network")["SRVGGNetCompact"] == image_cost(build_model({"type": "SRVGGNetCompact"}))
    costs = component_costs("encoder")
    assert costs["conv_pyramid"] == image_cost(ENCODERS.build("conv_pyramid"), height=224)
    assert costs["timm"] is None


def test_a_model_costs_what_its_network_costs():
    card = find_card("swinir_light_x2")
    cost = model_cost(card)
    assert cost.parameters == 910_152
    assert cost.macs == 69_508_792_320
    small = card.model_copy(update={"network": {**card.network, "depths": [1], "num_heads": [2], "embed_dim": 8}})
    assert dataclasses.replace(model_cost(small), gathered=0) == dataclasses.replace(
        image_cost(build_model(small.network)), gathered=0
    )


def test_what_nothing_tells_is_not_counted(monkeypatch, tmp_path):
    monkeypatch.setenv("RESTORE_CACHE", str(tmp_path))
    assert model_cost(find_card("edt_b_x2")) is None
    assert model_cost(find_card("iqt_small")) is None


def test_kinds_without_costs():
    with pytest.raises(OptionsError, match=r"no costs of 'loss'\. Counted are: network, encoder, mixer, feed_forward"):
        component_costs("loss")


def test_the_command_prints_them(two_mixers, capsys):
    assert main(["models", "mixer", "--cost"]) == 0
    shown = capsys.readouterr().out
    assert [word in shown for word in ("linear", "0.004", "0.039", "needy", "-")] == [True] * 5
    assert main(["models", "mixer", "--cost", "--json"]) == 0
    counted = json.loads(capsys.readouterr().out)
    assert counted["linear"]["macs"] == 96 * 112 * 3600
    assert counted["needy"] is None
    assert main(["models", "loss", "--cost"]) == 2


@pytest.mark.parametrize("name", ["conv_pyramid", "cct", "cyclemlp", "pyramid_vig"])
def test_encoders_cost_what_the_package_says(name):
    assert counted_encoder(name) == count_encoder(name)


@pytest.mark.slow
def test_all_encoders_cost_what_the_package_says():
    """Those of timm up to 0.1 %: its versions differ."""
    for family in list_components("encoder"):
        said, found = counted_encoder(family.name), count_encoder(family.name)
        assert (said is None) == (found is None), family.name
        if said is not None:
            assert said == pytest.approx(found, rel=1e-3 if family.weights == "timm" else 0), family.name
