from __future__ import annotations

from typing import ClassVar

import pytest
import torch
from network_tester import NetworkTester, counts

from restore.layers.folding import fold
from restore.networks.checkpoint import infer, load_weights
from restore.networks.repconv import RepConvSR
from restore.registry import NETWORKS


class TestRepConvSR(NetworkTester):
    variants: ClassVar[dict[str, dict]] = {
        "x4": {"type": "RepConvSR", "num_feat": 8, "num_block": 2},
        "x2_folded": {"type": "RepConvSR", "num_feat": 8, "num_block": 1, "upscale": 2, "expansion": 0},
        "x3_grey": {"type": "RepConvSR", "num_in_ch": 1, "num_out_ch": 1, "num_feat": 4, "num_block": 1, "upscale": 3},
        "x1_unshuffled": {"type": "RepConvSR", "num_feat": 8, "num_block": 1, "upscale": 1, "unshuffle": 2},
        "x2_unshuffled_grey": {
            "type": "RepConvSR",
            "num_in_ch": 1,
            "num_out_ch": 1,
            "num_feat": 4,
            "num_block": 1,
            "upscale": 2,
            "unshuffle": 2,
            "expansion": 0,
        },
    }


@pytest.mark.parametrize(("expansion", "parameters"), [(0, 430_896), (2, 2_225_712)])
def test_sizes(expansion, parameters):
    assert counts(RepConvSR, expansion=expansion)[0] == parameters


def test_it_starts_as_a_bilinear_enlargement():
    x = torch.rand(1, 3, 6, 7)
    with torch.no_grad():
        restored = RepConvSR(num_feat=4, num_block=1)(x)
    wanted = torch.nn.functional.interpolate(x, scale_factor=4, mode="bilinear", align_corners=False)
    torch.testing.assert_close(restored, wanted)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("upscale", [1, 2, 3, 4])
@pytest.mark.parametrize("unshuffle", [1, 2, 3, 4])
def test_weights_are_recognised(channels, upscale, unshuffle):
    arguments = {
        "type": "RepConvSR",
        "num_in_ch": channels,
        "num_out_ch": channels,
        "num_feat": 4,
        "num_block": 1,
        "upscale": upscale,
        "expansion": 0,
        "unshuffle": unshuffle,
    }
    assert infer(NETWORKS.build(arguments).state_dict()) == arguments


def test_without_scale_it_starts_as_the_identity():
    x = torch.rand(1, 3, 7, 9)
    with torch.no_grad():
        torch.testing.assert_close(RepConvSR(num_feat=4, num_block=1, upscale=1, unshuffle=2)(x), x)


def test_folded_weights_are_those_of_a_plain_network():
    torch.manual_seed(0)
    network = RepConvSR(num_feat=6, num_block=2).double().eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(std=0.1)
    plain_layers = fold(network)
    state = plain_layers.state_dict()
    plain = NETWORKS.build(infer(state)).double().eval()
    load_weights(plain, state)
    x = torch.rand(1, 3, 9, 8, dtype=torch.float64)
    assert infer(state)["expansion"] == 0
    assert {type(module) for module in plain_layers.modules() if module._parameters} == {torch.nn.Conv2d}
    with torch.no_grad():
        torch.testing.assert_close(plain(x), network(x), rtol=0, atol=1e-10)
        torch.testing.assert_close(plain_layers(x), network(x), rtol=0, atol=1e-10)


def test_it_sees_no_further_than_its_convolutions():
    torch.manual_seed(0)
    network = RepConvSR(num_feat=4, num_block=1, upscale=2).double()
    torch.nn.init.normal_(network.conv_last.weight)
    halo_px = 6  # the first, three in the block, two at the end
    x = torch.rand(1, 3, 1, 2 * halo_px + 5, dtype=torch.float64)
    changed = x.clone()
    changed[..., 0] += 1
    with torch.no_grad():
        difference = (network(x) - network(changed)).abs().amax((0, 1, 2))
    reached = difference.nonzero().max().item() // 2
    assert halo_px - 1 <= reached <= halo_px


def test_mistakes():
    with pytest.raises(ValueError, match="num_in_ch and num_out_ch must be equal, given 1 and 3"):
        RepConvSR(num_in_ch=1)
