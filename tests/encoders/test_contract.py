"""Every registered encoder keeps the contract, and so does the one that CONTRIBUTING.md shows."""

from __future__ import annotations

from typing import ClassVar

import pytest
import torch
from encoder_tester import EncoderTester

from restore.encoders import Encoder
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

    def __init__(self, channels=(4, 8), strides=(2, 4), lost: int = 0):
        super().__init__(3, channels=channels, strides=strides, size_multiple=4)
        self.lost = lost

    def maps(self, x_BCHW):
        maps = [x_BCHW.new_zeros(1, 4, *(side // 2 for side in x_BCHW.shape[2:]))] * 2
        return maps[self.lost :]


@pytest.mark.parametrize("lost", [0, 1])
def test_maps_that_are_not_as_declared_are_found(lost):
    with pytest.raises(AssertionError, match=r"Odd\.maps gave .*\(4, 8, 10\).* where it declares .*\(8, 4, 5\)"):
        Odd(lost=lost)(torch.zeros(1, 3, 15, 17))


@pytest.mark.parametrize("wrong", [{"strides": (2,)}, {"strides": (4, 2)}])
def test_declarations_that_cannot_be_are_refused(wrong):
    with pytest.raises(ValueError, match="one stride for each map, ascending"):
        Odd(**wrong)
