"""Encoders in miniature: each family that can be small, in both kinds of network."""

from __future__ import annotations

import pytest
import torch

from restore.encoders.miniatures import MINIATURES, miniatures, with_pyramid
from restore.errors import OptionsError
from restore.networks.unet import UNetRestorer
from restore.quality.triq import TRIQ
from restore.registry import ENCODERS

LEFT_OUT = {
    *("caformer", "convformer", "gmlp", "mlp_mixer", "poolformer", "resmlp", "volo"),  # timm's, at published sizes only
    "resnet50_v1",  # one network
    *("pyramid", "timm"),  # of other encoders
}

SOME = ("cct", "gfnet_h", "hornet", "vit")  # one of each kind; all of them with `-m slow`


def test_every_family_that_can_be_small_is_there():
    variants = {variant for name in ENCODERS for variant in ENCODERS.variants(name)}
    assert {*ENCODERS} - variants == {*MINIATURES} | LEFT_OUT


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in SOME else pytest.mark.slow) for name in MINIATURES]
)
def test_it_stands_in_a_u_net_and_in_a_judge(name):
    (block,) = miniatures([name]).values()
    with torch.device("meta"):
        network = UNetRestorer(with_pyramid(block, 64), width=16, max_width=64, depth=1).eval()
        judge = TRIQ(block).eval()
        strides = network.encoder.strides
        assert network(torch.rand(1, 3, 64, 64)).shape == (1, 3, 64, 64)
        assert judge(torch.rand(1, 3, 64, 64)).shape == (1, 5)
    assert len({*strides}) == len(strides) > 1
    assert sum(parameter.numel() for parameter in network.encoder.parameters()) < 3.5e6


def test_other_names_are_swept_as_they_are_and_unknown_ones_refused():
    assert miniatures(["convnext_atto", "conv_pyramid"]) == {
        "convnext_atto": {"type": "convnext_atto"},
        "conv_pyramid": {"type": "conv_pyramid"},
    }
    with pytest.raises(OptionsError, match="unknown encoder 'convnxt'"):
        miniatures(["convnxt"])
