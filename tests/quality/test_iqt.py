from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from restore.errors import ImageError, MissingError, OptionsError
from restore.quality import build_quality
from restore.quality.iqt import IQTRegressor, crop_offsets
from restore.quality.transformer import fit_positions

SMALL = {"num_layers": 1, "width": 128, "head_width": 128}
TINY = {
    "type": "IQT",
    "encoder": {"type": "conv_pyramid", "widths": [4, 8]},
    "num_layers": 1,
    "width": 8,
    "num_heads": 2,
    "ffn_width": 16,
    "head_width": 8,
    "input_px": 16,
    "num_crops": 4,
}


@pytest.fixture
def tiny():
    torch.manual_seed(0)
    return build_quality(TINY).eval()


def images(*size, seed=0):
    return torch.rand(*size, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("side", "options", "parameters", "keys"), [(29, {}, 9_965_568, 94), (21, SMALL, 1_940_992, 52)]
)
def test_published_settings(side, options, parameters, keys):
    regressor = IQTRegressor(grid=(side, side), **options)
    assert sum(parameter.numel() for parameter in regressor.parameters()) == parameters
    assert len(regressor.state_dict()) == keys
    assert {"conv_enc.weight", "transformer.decoder.cls_token", "projection.2.weight"} <= set(regressor.state_dict())
    assert "transformer.decoder.layers.0.dec_enc_attn.W_Q.weight" in regressor.state_dict()


def test_causal_regressor_agrees_with_third_party_code(shared, fill):
    stored = np.load(shared("fixtures/iqt_regressor_causal.npz"))
    config = json.loads(str(stored["config"]))
    side = config["side"]
    regressor = IQTRegressor(grid=(side, side), compat_causal=True, **SMALL).eval()
    fill.fill_state_dict(regressor, int(stored["seed"]))
    random = np.random.RandomState(config["feature_seed"])
    maps = [torch.from_numpy(random.standard_normal((2, 1920, side, side)).astype(np.float32)) for _ in range(2)]
    with torch.no_grad():
        torch.testing.assert_close(regressor(*maps)[:, None], torch.from_numpy(stored["output"]), atol=1e-5, rtol=0)


@pytest.mark.parametrize("causal", [False, True])
def test_the_score_depends_on_the_reference_unless_causal(causal):
    torch.manual_seed(0)
    regressor = IQTRegressor(8, (4, 4), 1, 16, 2, 16, 16, compat_causal=causal).eval()
    difference, first, second = (images(2, 8, 4, 4, seed=seed) for seed in range(3))
    first.requires_grad_()
    score = regressor(difference, first)
    score.sum().backward()
    moved = (score - regressor(difference, second)).abs().max()
    assert (moved == 0 and first.grad.abs().max() == 0) if causal else (moved > 1e-4 and first.grad.abs().max() > 0)


def test_only_the_reference_changes_the_score(tiny):
    restored, reference = images(1, 3, 16, 16), images(1, 3, 16, 16, seed=1)
    scores = [tiny.judge(restored, other).item() for other in (reference, reference.flip(3), restored)]
    assert len({round(score, 6) for score in scores}) == 3


def test_swapping_the_images_changes_the_sign_of_what_the_encoder_sees(tiny):
    seen = []
    tiny.regressor.conv_enc.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    first, second = images(1, 3, 16, 16), images(1, 3, 16, 16, seed=1)
    tiny(first, second), tiny(second, first), tiny(first, first)
    torch.testing.assert_close(seen[0], -seen[1])
    assert seen[2].abs().max() == 0


def test_crops_are_seeded_and_reach_every_border(tiny):
    restored, reference = images(2, 3, 40, 24), images(2, 3, 40, 24, seed=1)
    assert torch.equal(tiny.judge(restored, reference), tiny.judge(restored, reference))
    one = torch.cat([tiny.judge(restored[i : i + 1], reference[i : i + 1]) for i in range(2)])
    torch.testing.assert_close(one, tiny.judge(restored, reference))
    offsets = crop_offsets((18, 17), 16, 200, seed=3)
    assert {top for top, _ in offsets} == {0, 1, 2}
    assert {left for _, left in offsets} == {0, 1}
    assert crop_offsets((16, 16), 16, 2, seed=0) == [(0, 0), (0, 0)]
    assert offsets != crop_offsets((18, 17), 16, 200, seed=4)


def test_a_frozen_encoder_stays_as_it_is():
    model = build_quality({**TINY, "encoder": {"type": "timm", "name": "test_resnet"}, "input_px": 32}).train()
    assert not model.encoder.training
    assert model.regressor.training
    assert not any(parameter.requires_grad for parameter in model.encoder.parameters())
    before = {key: value.clone() for key, value in model.encoder.state_dict().items()}
    restored = images(2, 3, 32, 32).requires_grad_()
    model(restored, images(2, 3, 32, 32, seed=1)).sum().backward()
    assert restored.grad.abs().max() > 0
    assert all(torch.equal(value, before[key]) for key, value in model.encoder.state_dict().items())


def test_inception_maps_have_the_published_size():
    model = build_quality({"type": "IQT-C", "encoder": {"type": "inception_block35", "pretrained": False}}).eval()
    assert sum(parameter.numel() for parameter in model.encoder.parameters()) == 1_672_672
    assert sum(parameter.numel() for parameter in model.regressor.parameters()) == 1_940_992
    with torch.no_grad():
        for side, expected in ((192, 21), (256, 29)):
            maps = model.encoder(torch.zeros(1, 3, side, side))
            assert [tuple(each.shape) for each in maps] == [(1, 320, expected, expected)] * 6
            assert model.encoder.side(side) == expected
    with pytest.raises(ImageError, match="at least 75x75"):
        model.encoder(torch.zeros(1, 3, 74, 90))


def test_weights_that_cannot_be_had_are_named(monkeypatch):
    def offline(*_, **__):
        raise OSError("no route")

    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_, **__: None)
    monkeypatch.setattr("restore.encoders.timm.weights.urllib.request.urlopen", offline)
    with pytest.raises(MissingError, match=r"Inception-ResNet-v2: .*no route.* pretrained: false"):
        build_quality({"type": "IQT"})


def test_bad_input(tiny):
    good = images(1, 3, 20, 20)
    with pytest.raises(ImageError, match="none is given"):
        tiny.judge(good)
    with pytest.raises(ImageError, match="must be equal"):
        tiny.judge(good, images(1, 3, 20, 21))
    with pytest.raises(ImageError, match=r"takes RGB.*Repeat grey"):
        tiny.judge(good[:, :1], good[:, :1])
    with pytest.raises(ImageError, match="crops of 16x16 px; the image is only 12x20"):
        tiny.judge(good[:, :, :12], good[:, :, :12])
    with pytest.raises(ImageError, match="NaN"):
        tiny.judge(good * float("nan"), good)
    with pytest.raises(OptionsError, match=r"num_layer.*num_layers"):
        build_quality({"type": "IQT", "num_layer": 3})
    with pytest.raises(OptionsError, match="unknown encoder"):
        build_quality({**TINY, "encoder": "resnet5O"})


def test_positions_are_interpolated_and_the_token_kept():
    rows = torch.arange(3.0).repeat_interleave(4)
    table = torch.cat([torch.tensor([9.0]), rows])[None, :, None]
    assert fit_positions(table, (3, 4), (3, 4)) is table
    fitted = fit_positions(table, (3, 4), (6, 8))
    assert fitted[0, 0, 0] == 9
    grid = fitted[0, 1:, 0].view(6, 8)
    torch.testing.assert_close(grid, grid[:, :1].expand(6, 8))
    assert (grid[:, 0].diff() >= 0).all()
