from __future__ import annotations

from typing import ClassVar

import timm
import torch
from encoder_tester import EncoderTester

from restore.encoders import build_encoder


class TestConvolutional(EncoderTester):
    blocks: ClassVar = [
        {"type": "conv_pyramid", "widths": [4, 8]},
        {"type": "conv_pyramid", "widths": [4, 8, 8], "detail_gain": 8.0},
        "resnet50_v1",
    ]


def test_detail_is_what_a_mean_leaves_over():
    torch.manual_seed(0)
    encoder = build_encoder({"type": "conv_pyramid", "widths": [4], "detail_gain": 2.0})
    seen = []
    encoder.stages[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    flat = torch.full((1, 3, 8, 8), 0.25)
    spot = flat.clone()
    spot[..., 4, 4] += 0.9
    encoder(flat), encoder(spot)
    assert seen[0][:, 3:].abs().max() < 1e-6
    torch.testing.assert_close(seen[1][0, 3:, 4, 4], torch.full((3,), 2 * (0.9 - 0.1)))


def test_strides_stand_in_the_first_convolutions():
    encoder = build_encoder("resnet50_v1")
    assert encoder.model["layer3"][0].conv1.stride == (2, 2)
    assert encoder.model["layer3"][0].conv2.stride == (1, 1)
    assert encoder.model["layer3"][1].conv1.stride == (1, 1)
    usual = timm.create_model("resnet50", features_only=True, pretrained=False)
    assert usual["layer3"][0].conv1.stride == (1, 1)
    assert set(encoder.model.state_dict()) == set(usual.state_dict())
