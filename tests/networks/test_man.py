"""MAN: sizes, keys, and what its options may be."""

from __future__ import annotations

from typing import ClassVar

import pytest
import torch
from network_tester import NetworkTester, counts

from restore.networks.man import MAN

SIZES = ((5, 48), (24, 60), (36, 180))
SMALL = {"type": "MAN", "n_resblocks": 2, "n_feats": 12}


class TestMAN(NetworkTester):
    variants: ClassVar[dict[str, dict]] = {"x2": SMALL, "x3_groups": {**SMALL, "n_resgroups": 2, "scale": 3}}


def test_sizes():
    """Of MAN-tiny, MAN-light and MAN at x4: 150K, 840K and 8.71M, as published."""
    found = [counts(MAN, n_resblocks=blocks, n_feats=channels, scale=4)[0] for blocks, channels in SIZES]
    assert found == [150_000, 842_868, 8_712_588]


def test_the_mean_of_colours_is_taken_off_and_put_back():
    network = MAN(**{key: value for key, value in SMALL.items() if key != "type"}).eval()
    image = torch.rand(1, 3, 5, 7)
    with torch.no_grad():
        torch.testing.assert_close(network.add_mean(network.sub_mean(image)), image)
    assert {"sub_mean.weight", "add_mean.bias"} <= network.state_dict().keys()


@pytest.mark.parametrize("options", [{"n_feats": 20}, {"scale": 0}])
def test_impossible_configurations_say_why(options):
    with pytest.raises(ValueError, match=r"multiple of 3|scale"):
        MAN(**options)
