from __future__ import annotations

from typing import ClassVar

import pytest
import torch
from network_tester import NetworkTester

from restore.errors import OptionsError
from restore.networks.unet import UNetRestorer
from restore.registry import MIXERS

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


@pytest.mark.parametrize("name", MIXERS.names())
def test_every_mixer_learns_in_the_decoder(name):
    network = UNetRestorer({"type": "conv_pyramid", "widths": [8, 8]}, width=24, depth=1, mixer=name).train()
    network(torch.rand(2, 3, 13, 21)).square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.decoder.parameters())


@pytest.mark.parametrize("encoder", ["cyclemlp", "vig", "amixer", "afno"])
def test_encoders_of_every_kind_learn(encoder):
    small = {
        "cyclemlp": {"dims": [8, 8, 16, 16], "depths": [1, 1, 1, 1]},
        "vig": {"img_size": 64, "embed_dim": 16, "depth": 2, "num_neighbours": 3},
        "amixer": {"img_size": 64, "embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 2, 4, 4]},
        "afno": {"img_size": 64, "embed_dim": 16, "depth": 2, "num_blocks": 2},
    }
    network = UNetRestorer({"type": encoder, **small[encoder]}, width=8, max_width=16, depth=1).train()
    output = network(torch.rand(2, 3, 37, 51))
    assert output.shape == (2, 3, 37, 51)
    output.square().mean().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in network.parameters())


def test_every_map_of_the_encoder_matters():
    torch.manual_seed(0)
    network = UNetRestorer("test_convnext", width=8, depth=1).train()
    network(torch.rand(1, 3, 64, 64)).square().mean().backward()
    assert all(conv.weight.grad.abs().max() > 0 for conv in network.lateral)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"encoder": "test_convnet"}, r"encoder: unknown encoder"),
        ({"mixer": {"type": "window", "num_heads": 3}}, "multiple of num_heads"),
        ({"encoder": {"type": "test_convnext", "out_indices": [1, 0]}}, "from fine to coarse"),
    ],
)
def test_impossible_configurations_say_why(options, message):
    with pytest.raises((OptionsError, ValueError), match=message):
        UNetRestorer(**{"encoder": "test_convnext", "width": 8} | options)
