"""The encoder whose mixers are named in the option file."""

from __future__ import annotations

import pytest
import torch

from restore.encoders import build_encoder
from restore.errors import OptionsError
from restore.networks.unet import UNetRestorer
from restore.registry import MIXERS

SMALL = {"type": "metaformer", "dims": [24, 24, 48], "depths": [1, 1, 2]}


@pytest.mark.parametrize("name", MIXERS.names())
def test_every_mixer_stands_in_it_at_any_size_and_learns(name):
    torch.manual_seed(0)
    encoder = build_encoder({**SMALL, "mixers": name}, maps_only=True)
    maps = encoder(torch.rand(2, 3, 37, 51))
    assert [tuple(each.shape) for each in maps] == [(2, 24, 10, 13), (2, 24, 5, 7), (2, 48, 3, 4)]
    sum(each.square().mean() for each in maps).backward()
    assert all(each.grad is not None and each.grad.isfinite().all() for each in encoder.parameters())
    assert [tuple(each.shape[2:]) for each in encoder.eval()(torch.rand(1, 3, 3, 1))] == [(1, 1)] * 3


def test_each_stage_may_have_its_own_mixer():
    window = {"type": "window", "num_heads": 2, "window_size": 4}
    encoder = build_encoder({**SMALL, "mixers": ["identity", "separable_conv", window], "position": "conv"})
    names = [[type(block.mixer).__name__ for block in stage] for stage in encoder.stages]
    assert names == [["IdentityMixer"], ["SeparableConvolution"], ["WindowAttention"] * 2]
    assert encoder.stages[2].size_multiple == (4, 4)
    state = encoder.state_dict()
    assert "stages.2.1.mixer.qkv.weight" in state
    assert any(key.startswith("positions.1.") for key in state)


def test_without_mixing_what_is_left_are_the_convolutions_between_stages():
    torch.manual_seed(0)
    encoder = build_encoder({**SMALL, "mixers": "identity", "feed_forward": "none"}).eval()
    baseline = build_encoder({"type": "identityformer", "dims": [24, 24, 48], "depths": [1, 1, 2], "grids": [None] * 3})
    for block in baseline.eval().blocks():  # all branches silent but for the shortcut
        torch.nn.init.zeros_(block.norm1.weight)
        torch.nn.init.zeros_(block.ffn.fc2.weight)
    for block in encoder.blocks():
        torch.nn.init.zeros_(block.norm1.weight)
    encoder.downsample_layers.load_state_dict(baseline.downsample_layers.state_dict())
    x = torch.rand(1, 3, 40, 56)
    with torch.no_grad():
        for one, other in zip(encoder(x), baseline(x), strict=True):
            torch.testing.assert_close(one, other)


def test_it_stands_in_a_u_net_and_mistakes_say_where():
    network = UNetRestorer({**SMALL, "mixers": ["identity", "pooling", "outlook"]}, width=8, max_width=16, depth=1)
    assert network(torch.rand(1, 3, 13, 21)).shape == (1, 3, 13, 21)
    with pytest.raises(OptionsError, match="dims has 3 entries, depths 3 and mixers 2: one for each stage"):
        build_encoder({**SMALL, "mixers": ["identity", "pooling"]})
    with pytest.raises(OptionsError, match=r"(?s)mixers\.1.*poling.*pooling"):
        build_encoder({**SMALL, "mixers": ["identity", "poling", "pooling"]})
