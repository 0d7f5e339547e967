"""Every registered encoder keeps the contract, and so does the one that CONTRIBUTING.md shows."""

from __future__ import annotations

from typing import ClassVar

import pytest
import torch
from encoder_tester import EncoderTester

from restore.encoders import Encoder, build_encoder
from restore.networks.unet import UNetRestorer
from restore.registry import ENCODERS

SMALL = {  # options that make an encoder small enough to test; all others are tested as they are
    "conv_pyramid": {"widths": [4, 8]},
    "band_energy": {"num_filters": 4, "widths": [8, 8]},
}


class TestRegistered(EncoderTester):
    """timm's are in `test_timm.py`."""

    blocks: ClassVar = [{"type": name, **SMALL.get(name, {})} for name in ENCODERS if name != "timm"]


class TestDocumented(EncoderTester):
    blocks: ClassVar = ["patches"]

    @pytest.fixture(autouse=True)
    def registered(self, run_example, monkeypatch):
        monkeypatch.setattr(ENCODERS, "_components", dict(ENCODERS._components))
        run_example("an encoder")

    def test_it_stands_in_a_network(self):
        network = UNetRestorer({"type": "patches", "width": 8}, width=8, depth=1)
        assert network(torch.rand(1, 3, 13, 21)).shape == (1, 3, 13, 21)


class Odd(Encoder):
    """Says one thing and does another."""

    def __init__(self, in_chans=3, out_indices=None, *, give=list, **declared):
        declared = {"channels": (4, 8), "strides": (2, 4), "size_multiple": 4} | declared
        super().__init__(in_chans, out_indices=out_indices, **declared)
        self.give = give

    def maps(self, x_BCHW):
        B, _, H, W = x_BCHW.shape
        return self.give([x_BCHW.new_zeros(B, 4, H // 2, W // 2), x_BCHW.new_zeros(B, 8, H // 4, W // 4)])


MISTAKES = {
    "coarser than declared": (lambda maps: [maps[1], maps[1]], r"\(1, 8, 4, 5\), \(1, 8, 4, 5\)"),
    "one is missing": (lambda maps: maps[1:], r"\[\(1, 8, 4, 5\)\]"),
    "channels last": (lambda maps: [each.permute(0, 2, 3, 1) for each in maps], r"\(1, 8, 10, 4\)"),
    "tokens": (lambda maps: [each.flatten(2) for each in maps], r"\(1, 4, 80\)"),
    "images lost": (lambda maps: [each[:0] for each in maps], r"\(0, 4, 8, 10\)"),
    "one map alone": (lambda maps: maps[0], "Tensor, not a list"),
    "a dictionary": (lambda maps: dict(enumerate(maps)), "dict, not a list"),
    "nothing": (lambda maps: None, "NoneType, not a list"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_maps_that_are_not_as_declared_are_found(mistake):
    give, found = MISTAKES[mistake]
    assert len(Odd()(torch.zeros(1, 3, 15, 17))) == 2
    with pytest.raises(AssertionError, match=rf"Odd\.maps gave .*{found}"):
        Odd(give=give)(torch.zeros(1, 3, 15, 17))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"strides": (2,)}, "one stride for each map, ascending"),
        ({"strides": (4, 2)}, "one stride for each map, ascending"),
        ({"strides": (0, 2)}, r"strides is \[0, 2\]: allowed are numbers above 0"),
        ({"size_multiple": 0}, "size_multiple is 0"),
        ({"out_indices": []}, "out_indices is empty"),
    ],
)
def test_declarations_that_cannot_be_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        Odd(**wrong)


def test_images_without_a_batch_are_refused():
    with pytest.raises(ValueError, match=r"takes \(B, 3, H, W\).*given \(3, 8, 8\)"):
        Odd()(torch.zeros(3, 8, 8))


def test_an_encoder_takes_what_networks_give_it():
    with pytest.raises(TypeError, match=r"Deaf\.__init__ does not take in_chans and out_indices: add `in_ch"):

        class Deaf(Encoder):
            def __init__(self, width: int = 8):
                super().__init__(3, channels=(width,), strides=(2,))


class NoEncoder(torch.nn.Module):
    def __init__(self, in_chans=3, out_indices=None):
        super().__init__()


class Headless(Odd):
    def __init__(self, in_chans=3, out_indices=None):
        self.in_chans = in_chans


class Careless(Odd):
    def __init__(self, in_chans=3, out_indices=None):
        super().__init__(in_chans)


@pytest.mark.parametrize(
    ("component", "message"),
    [
        (NoEncoder, "NoEncoder is registered as an encoder but is none: derive it from Encoder"),
        (Headless, r"Headless\.__init__ does not call super\(\)\.__init__"),
        (Careless, r"Careless\.__init__ does not give out_indices to super\(\)\.__init__"),
    ],
)
def test_what_breaks_the_contract_is_refused_when_it_is_built(component, message, monkeypatch):
    monkeypatch.setattr(ENCODERS, "_components", ENCODERS._components | {"mine": component})
    with pytest.raises(TypeError, match=message):
        build_encoder({"type": "mine", "out_indices": [1]})
