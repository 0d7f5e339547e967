from __future__ import annotations

from typing import ClassVar

import pytest
import torch
from encoder_tester import EncoderTester

from restore.encoders import Encoder, build_encoder
from restore.errors import OptionsError


class TestTimmOfAnySize(EncoderTester):
    blocks: ClassVar = ["test_convnext", "test_resnet", "test_vit"]


class TestTimmOfOneSize(EncoderTester):
    blocks: ClassVar = [{"type": "levit_128s", "img_size": 64}]
    without_gradient: ClassVar = {  # the last map has one place, which attends to itself whatever its bias
        "levit_128s": tuple(f"stages.2.blocks.{number}.attn.attention_biases" for number in range(4))
    }


@pytest.mark.slow
class TestTimmLarge(EncoderTester):
    blocks: ClassVar = [
        "convnext_atto",
        "swin_tiny_patch4_window7_224",
        {"type": "coatnet_0_rw_224", "img_size": 64},
        "inception_resnet_v2",
    ]


def test_a_model_of_one_size_sees_tiles_side_by_side():
    encoder = build_encoder({"type": "levit_128s", "img_size": 64}).eval()
    x = torch.randn(1, 3, 64, 192)
    with torch.no_grad():
        whole, alone = encoder(x), encoder(x[..., 64:128])
    assert encoder.tile_px == 64
    for each, part in zip(whole, alone, strict=True):
        side = part.shape[-1]
        assert torch.allclose(each[..., side : 2 * side], part, atol=1e-5)


def test_maps_that_come_out_small_are_resampled():
    class Narrow(Encoder):
        def __init__(self, in_chans: int = 3, out_indices=None):
            super().__init__(in_chans, channels=(4,), strides=(2,), out_indices=out_indices, size_multiple=2)
            self.conv = torch.nn.Conv2d(in_chans, 4, 2, stride=2)

        def maps(self, x_BCHW):
            return [self.conv(x_BCHW)]

    assert Narrow()(torch.zeros(1, 3, 5, 7))[0].shape == (1, 4, 3, 4)


def test_unknown_names_get_a_suggestion_from_timm():
    with pytest.raises(OptionsError, match=r"network_g.encoder: .*Did you mean 'convnext_atto'"):
        build_encoder("convnext_ato", path="network_g.encoder")


def test_unknown_options_are_named():
    with pytest.raises(OptionsError, match=r"out_indexes.*Did you mean 'out_indices'"):
        build_encoder({"type": "test_resnet", "out_indexes": [0]})


def test_img_size_where_there_is_none():
    with pytest.raises(ValueError, match="cannot be built for another img_size"):
        build_encoder({"type": "test_resnet", "img_size": 64})


def test_img_size_that_no_stride_divides():
    with pytest.raises(ValueError, match="img_size is a multiple of 16, 32, 64"):
        build_encoder({"type": "levit_128s", "img_size": 32})


def test_branches_that_timm_joins_are_joined(assert_folds):
    encoder = build_encoder("repghostnet_050")
    folded = assert_folds(encoder, torch.rand(1, 3, 32, 32))
    sizes = [sum(parameter.numel() for parameter in each.parameters()) for each in (encoder, folded)]
    assert sizes[1] < sizes[0]
    norms = [sum(isinstance(each, torch.nn.BatchNorm2d) for each in model.modules()) for model in (encoder, folded)]
    assert norms[1] < norms[0]
