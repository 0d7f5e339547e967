from __future__ import annotations

import math

import pytest
import timm
import torch

from restore.encoders import build_encoder


def test_energies_double_with_the_image_and_flat_areas_have_none():
    torch.manual_seed(0)
    encoder = build_encoder({"type": "band_energy", "num_filters": 4})
    texture = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        flat = encoder._log_energies(torch.full((1, 3, 64, 64), 0.7))
        once, twice = encoder._log_energies(texture), encoder._log_energies(2 * texture + 0.1)
    assert once.shape == (1, 12, 8, 8)
    torch.testing.assert_close(flat, torch.full_like(flat, (math.log(1e-5) + 6) / 3))
    torch.testing.assert_close(twice - once, torch.full_like(once, math.log(4) / 3), atol=2e-3, rtol=0)


def test_more_scales_than_a_block_has_are_refused():
    with pytest.raises(ValueError, match="num_scales is 5"):
        build_encoder({"type": "band_energy", "num_scales": 5})


def test_strides_stand_in_the_first_convolutions():
    encoder = build_encoder("resnet50_v1")
    assert encoder.model["layer3"][0].conv1.stride == (2, 2)
    assert encoder.model["layer3"][0].conv2.stride == (1, 1)
    assert encoder.model["layer3"][1].conv1.stride == (1, 1)
    usual = timm.create_model("resnet50", features_only=True, pretrained=False)
    assert usual["layer3"][0].conv1.stride == (1, 1)
    assert set(encoder.model.state_dict()) == set(usual.state_dict())
