from __future__ import annotations

from typing import ClassVar

import pytest
import torch
from network_tester import NetworkTester, counts

from restore.networks.esrgan import RRDBNet, SRVGGNetCompact
from restore.networks.residual import EDSR, RCAN, MSRResNet


class TestNetworks(NetworkTester):
    variants: ClassVar[dict[str, dict]] = {
        "msrresnet_x4": {"type": "MSRResNet", "num_feat": 8, "num_block": 2},
        "msrresnet_x3_grey": {"type": "MSRResNet", "num_in_ch": 1, "num_out_ch": 1, "num_feat": 8, "upscale": 3},
        "msrresnet_x2": {"type": "MSRResNet", "num_feat": 8, "num_block": 1, "upscale": 2},
        "edsr_x4": {"type": "EDSR", "num_feat": 8, "num_block": 2},
        "edsr_x3_grey": {"type": "EDSR", "num_in_ch": 1, "num_out_ch": 1, "num_feat": 8, "num_block": 1, "upscale": 3},
        "edsr_x8": {"type": "EDSR", "num_feat": 4, "num_block": 1, "upscale": 8},
        "rcan_x2": {"type": "RCAN", "num_feat": 8, "num_group": 2, "num_block": 1, "squeeze_factor": 4, "upscale": 2},
        "rrdbnet_x4": {"type": "RRDBNet", "num_feat": 8, "num_block": 1, "num_grow_ch": 4},
        "rrdbnet_x2": {"type": "RRDBNet", "num_feat": 8, "num_block": 1, "num_grow_ch": 4, "scale": 2},
        "rrdbnet_x1": {"type": "RRDBNet", "num_feat": 8, "num_block": 1, "num_grow_ch": 4, "scale": 1},
        "srvgg_x4": {"type": "SRVGGNetCompact", "num_feat": 8, "num_conv": 3},
        "srvgg_relu_x2": {"type": "SRVGGNetCompact", "num_feat": 8, "num_conv": 1, "upscale": 2, "act_type": "relu"},
    }


@pytest.mark.parametrize(
    ("network", "options", "parameters"),
    [
        (MSRResNet, {}, 1_517_571),
        (EDSR, {}, 1_517_571),
        (EDSR, {"num_feat": 256, "num_block": 32, "upscale": 3, "res_scale": 0.1}, 43_680_003),
        (RCAN, {}, 12_614_915),
        (RRDBNet, {}, 16_697_987),
        (RRDBNet, {"scale": 2}, 16_703_171),
        (SRVGGNetCompact, {}, 621_424),
        (SRVGGNetCompact, {"num_conv": 32}, 1_213_296),
    ],
)
def test_published_sizes(network, options, parameters):
    assert counts(network, **options)[0] == parameters


def test_grey_images_share_the_mean_of_the_colours():
    network = EDSR(num_in_ch=1, num_out_ch=1, num_feat=4, num_block=1)
    assert network.mean.flatten().tolist() == pytest.approx([(0.4488 + 0.4371 + 0.4040) / 3])
    assert "mean" not in network.state_dict()


@pytest.mark.parametrize(
    ("network", "options", "message"),
    [
        (EDSR, {"num_in_ch": 1}, "num_in_ch and num_out_ch must be equal, given 1 and 3"),
        (EDSR, {"rgb_mean": (0.5, 0.5)}, "rgb_mean has 2 values for 3 channels"),
        (EDSR, {"upscale": 5}, "cannot up-sample 5 times"),
        (RCAN, {"num_feat": 8}, "squeeze_factor 16 leaves nothing of num_feat 8"),
        (SRVGGNetCompact, {"num_in_ch": 1}, "must be equal"),
    ],
)
def test_mistakes(network, options, message):
    with torch.device("meta"), pytest.raises(ValueError, match=message):
        network(**options)


def test_residuals_of_the_large_edsr_are_scaled():
    from restore.networks.checkpoint import infer

    with torch.device("meta"):
        large, medium = EDSR(num_feat=256, num_block=1), EDSR(num_block=1)
    assert infer(large.state_dict())["res_scale"] == 0.1
    assert infer(medium.state_dict())["res_scale"] == 1
