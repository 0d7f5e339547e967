from __future__ import annotations

from typing import ClassVar

import pytest
import torch
from network_tester import NetworkTester

from restore.errors import OptionsError
from restore.networks.unet import UNetRestorer

TINY = {"type": "UNetRestorer", "encoder": "test_convnext", "width": 8, "max_width": 16, "depth": 1}


class TestUNetRestorer(NetworkTester):
    recognised = False
    variants: ClassVar = {
        "convolution": TINY,
        "transformer": TINY | {"encoder": "test_vit", "mixer": "pooling", "in_chans": 1},
        "two_maps": TINY
        | {"encoder": {"type": "test_resnet", "out_indices": [1, 4]}, "upscale": 2, "upsampler": "pixelshuffle"},
        "slots": TINY
        | {
            "mixer": {"type": "attention", "num_heads": 2},
            "feed_forward": "leff",
            "mlp_ratio": 1.5,
            "norm": "rms",
            "placement": "deepnorm",
            "position": "conv",
        },
    }

    def test_gradients_reach_every_parameter(self, variant):
        if variant == "transformer":
            pytest.skip("the model has a last norm that none of its maps passes")
        super().test_gradients_reach_every_parameter(variant)


def test_blocks_of_the_decoder_are_counted_from_the_coarsest():
    network = UNetRestorer("test_convnext", width=8, depth=2, placement="deepnorm")
    levels = len(network.decoder)
    places = [[block.placement.index for block in join.blocks] for join in reversed(network.decoder)]
    assert places == [[2 * level, 2 * level + 1] for level in range(levels)]
    assert {block.placement.num_blocks for join in network.decoder for block in join.blocks} == {2 * levels}


def test_every_map_of_the_encoder_matters():
    torch.manual_seed(0)
    network = UNetRestorer("test_convnext", width=8, depth=1).train()
    network(torch.rand(1, 3, 64, 64)).square().mean().backward()
    assert all(conv.weight.grad.abs().max() > 0 for conv in network.lateral)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"encoder": "test_convnet"}, r"encoder: unknown encoder"),
        ({"mixer": {"type": "window", "num_heads": 2}}, "takes multiples of 8"),
        ({"encoder": {"type": "test_convnext", "out_indices": [1, 0]}}, "from fine to coarse"),
    ],
)
def test_impossible_configurations_say_why(options, message):
    with pytest.raises((OptionsError, ValueError), match=message):
        UNetRestorer(**{"encoder": "test_convnext", "width": 8} | options)
