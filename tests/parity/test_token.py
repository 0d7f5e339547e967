"""Encoders of tokens against their official code."""

from __future__ import annotations

import pytest
import torch
from official import errors, parameters

from restore.encoders.token.cct import SequencePooling
from restore.layers.mixers import build_mixer

SMALL = {  # fixture: (block, whether its map is that after the last norm)
    "lvvit__small": ({"type": "lvvit", "img_size": 96, "embed_dim": 48, "depth": 3, "num_heads": 3}, True),
    "deepvit__small": (
        {"type": "deepvit", "img_size": 96, "embed_dim": 48, "depth": 4, "num_reattention": 2, "num_heads": 4},
        False,
    ),
    "ceit__small": (
        {"type": "ceit", "img_size": 96, "embed_dim": 48, "depth": 3, "num_heads": 3, "qkv_bias": False},
        False,
    ),
    "cct_2_3x2_32__32": ("cct_2_3x2", False),
    "cct_7_3x1_32__32": ("cct_7_3x1", False),
}
PARAMETERS = {  # as counted in the official code, with 1000 classes
    "lvvit_tiny": 8_534_720,
    "lvvit_small": 26_151_824,
    "lvvit_medium": 55_830_544,
    "lvvit_large": 150_021_968,
    "deepvit_16b": 24_426_664,
    "deepvit_24b": 36_261_448,
    "deepvit_32b": 48_096_232,
    "deepvit_small": 27_312_632,
    "deepvit_large": 58_883_708,
    "ceit_tiny": 6_356_904,
    "ceit_small": 24_204_840,
    "ceit_base": 94_405_416,
    "cct_14_7x2": 22_367_273,
}
OF_TEN_CLASSES = {
    "cct_2_3x2": 283_723,
    "cct_4_3x2": 482_123,
    "cct_6_3x1": 3_233_803,
    "cct_7_3x1": 3_760_139,
    "vit_lite_7_4": 3_716_874,
    "cvt_lite_7_4": 3_716_619,
}


@pytest.mark.parametrize("name", SMALL)
def test_agrees_with_official_code(name, shared, fill):
    block, normed = SMALL[name]
    found = errors(shared, fill, name, block, normed=normed)
    assert "output_logits" in found
    assert max(found.values()) <= 1e-5, found


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters(name):
    assert parameters(name) == PARAMETERS[name]


@pytest.mark.parametrize("name", OF_TEN_CLASSES)
def test_parameters_of_ten_classes(name):
    assert parameters(name, 10) == OF_TEN_CLASSES[name]


@pytest.mark.parametrize(("name", "count"), [("ceit_tiny", 6_429_864), ("ceit_small", 24_350_760)])
def test_ceit_of_384_px(name, count):
    assert parameters({"type": name, "img_size": 384}) == count


def test_sequence_pooling():
    torch.manual_seed(0)
    pooling, tokens_BNC = SequencePooling(5), torch.randn(2, 7, 5)
    torch.testing.assert_close(pooling(tokens_BNC), pooling(tokens_BNC[:, torch.randperm(7)]))
    torch.nn.init.zeros_(pooling.weight)
    torch.testing.assert_close(pooling(tokens_BNC), tokens_BNC.mean(dim=1))


def test_reattention_with_the_identity_is_attention():
    torch.manual_seed(0)
    mixer = build_mixer({"type": "reattention", "num_heads": 4}, 16).double().eval()
    plain = build_mixer({"type": "attention", "num_heads": 4}, 16).double()
    plain.load_state_dict(mixer.state_dict(), strict=False)
    x_BHWC = torch.randn(2, 4, 5, 16, dtype=torch.float64)
    assert not torch.allclose(mixer(x_BHWC), plain(x_BHWC))
    with torch.no_grad():
        mixer.reatten_matrix.weight.copy_(torch.eye(4)[:, :, None, None])
        mixer.reatten_matrix.bias.zero_()
        mixer.var_norm.running_var.fill_(1 - mixer.var_norm.eps)
    torch.testing.assert_close(mixer(x_BHWC), plain(x_BHWC), rtol=0, atol=1e-12)
