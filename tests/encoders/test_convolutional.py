from __future__ import annotations

import math

import pytest
import timm
import torch

from restore.encoders import Classifier, build_encoder, load_published, published_state
from restore.encoders.convolution.hr_nas import _Cell, _Layers
from restore.encoders.convolution.trt_vit import MixedBlock


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


def test_after_trt_vit_has_attention_late_in_the_network_and_early_in_a_block():
    encoder = build_encoder("after_trt_vit")
    counts = [sum(isinstance(each, MixedBlock) for each in stage) for stage in encoder.stages]
    assert counts == [0, 0, 1, 7]
    assert [len(stage) for stage in encoder.stages] == sorted(len(stage) for stage in encoder.stages)
    block = encoder.stages[3][-1].eval()
    x = torch.randn(1, 4, 5, 512)
    halves = (block(x) - x).split(256, dim=-1)
    first = block.transformer(block.reduce(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))
    torch.testing.assert_close(halves[0], first, rtol=0, atol=1e-5)
    second = block.bottleneck(first.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    torch.testing.assert_close(halves[1], second, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"shrink": 1.0}, "shrink is 1.0"), ({"num_mixed": [0, 0, 0, 9]}, "must not be above depths")],
)
def test_blocks_that_cannot_be_mixed_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        build_encoder({"type": "after_trt_vit", **wrong})


def test_hr_nas_counts_what_the_official_cells_hold_for_distillation_less():
    with torch.device("meta"):
        classifier = Classifier(build_encoder("hr_nas"), 1000)
        cells = [each for each in classifier.modules() if isinstance(each, _Cell)]
    unused = sum(2 * op[0][0].out_channels for cell in cells for op in cell.ops)
    assert sum(each.numel() for each in classifier.parameters()) + unused == 13_339_772


def test_a_cell_is_its_input_where_the_last_norms_are_silent():
    torch.manual_seed(0)
    cell = _Cell(6, 6, 1, [(3, 12), (5, 8)], 4, _Layers("relu", 1e-3, antialias=True)).eval()
    x = torch.randn(1, 6, 9, 14)
    assert not torch.allclose(cell(x), x)
    for norm in (cell.pw_bn, cell.transformer.reverse_proj.bn):
        torch.nn.init.zeros_(norm.weight)
        torch.nn.init.zeros_(norm.bias)
    torch.testing.assert_close(cell(x), x)


def test_official_weights_of_hr_nas_come_with_more_than_is_used():
    encoder = build_encoder({"type": "hr_nas", "dims": [6, 12], "depths": [1, 1], "head_dims": [8, 8]})
    state = published_state(encoder)
    load_published(encoder, {**state, "features.0.fuse_layers.0.0.bns.0.weight": torch.ones(96)})
