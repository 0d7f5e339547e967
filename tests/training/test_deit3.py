"""DeiT III for quality: LAMB, binary losses over levels, LayerScale, and augmentation that keeps labels."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from training_runs import judge_option_file, resumed_bit_by_bit

from restore.data.augment import Colours
from restore.data.ratings.opinions import distribution_about
from restore.data.ratings.synthetic import SyntheticQualityDataset
from restore.data.sampling import Draw
from restore.images import write_image
from restore.losses.opinion import BinaryOpinionLoss, OpinionLoss
from restore.metrics import gmsd
from restore.quality import build_quality
from restore.training.lamb import LAMB

TRIQ = {
    "type": "TRIQ",
    "encoder": {"type": "conv_pyramid", "widths": [4, 8]},
    "num_layers": 1,
    "width": 8,
    "num_heads": 2,
    "ffn_width": 8,
    "grid": [3, 4],
    "dropout": 0.0,
}


def drawn(*size, seed=0, dtype=torch.float64):
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def stepped(optimizer, parameters, steps=5):
    for number in range(steps):
        for seed, parameter in enumerate(parameters):
            parameter.grad = drawn(*parameter.shape, seed=100 * number + seed)
        optimizer.step()
    return [parameter.detach() for parameter in parameters]


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_a_step_of_lamb_is_as_long_as_the_tensor(decay):
    weight = drawn(4, 5).requires_grad_()
    optimizer = LAMB([weight], lr=0.01, weight_decay=decay, max_ratio=math.inf)
    for number in range(4):
        before = weight.detach().clone()
        weight.grad = drawn(4, 5, seed=number) * 10.0**number
        optimizer.step()
        torch.testing.assert_close((weight - before).norm(), 0.01 * before.norm())


def test_lamb_is_adam_along_each_tensor():
    weight, bias = drawn(4, 5).requires_grad_(), drawn(5, seed=1).requires_grad_()
    ours = LAMB([weight, bias], lr=0.01, weight_decay=0.0)
    start = weight.detach().clone()
    other = [each.detach().clone().requires_grad_() for each in (weight, bias)]
    adam = torch.optim.Adam(other, lr=0.01, eps=1e-6)
    stepped(ours, [weight, bias], steps=1)
    stepped(adam, other, steps=1)
    moved, adams = weight - start, other[0] - start
    torch.testing.assert_close(moved / moved.norm(), adams / adams.norm())
    stepped(ours, [weight, bias])
    stepped(adam, other)
    torch.testing.assert_close(bias, other[1])  # one dimension: Adam


def test_lamb_does_not_mind_the_scale_of_gradients_and_starts_from_zero():
    results = []
    for scale in (1.0, 1e4):
        weight = drawn(3, 3).requires_grad_()
        optimizer = LAMB([weight], lr=0.1, eps=0.0)
        for number in range(3):
            weight.grad = scale * drawn(3, 3, seed=number)
            optimizer.step()
        results.append(weight.detach())
    torch.testing.assert_close(*results)
    zero = torch.zeros(2, 2, requires_grad=True)
    zero.grad = torch.ones(2, 2)
    LAMB([zero], lr=0.1, eps=0.0).step()
    torch.testing.assert_close(zero.detach(), torch.full((2, 2), -0.1))


def test_binary_losses_are_least_at_the_opinions():
    shares = torch.from_numpy(distribution_about(0.4))[None]
    logits = shares.log().requires_grad_()
    BinaryOpinionLoss()(logits, shares).backward()
    torch.testing.assert_close(logits.grad, torch.zeros_like(logits), atol=1e-12, rtol=0)
    least = BinaryOpinionLoss(loss_weight=2.0)(shares.log(), shares)
    above = shares.flip(1).cumsum(1).flip(1)[0, 1:]
    entropy = -(above * above.log() + (1 - above) * (1 - above).log()).mean()
    torch.testing.assert_close(least, 2 * entropy)
    for seed in range(5):
        assert BinaryOpinionLoss(loss_weight=2.0)(drawn(1, 5, seed=seed), shares) > least


def test_levels_have_an_order():
    def cost(loss, level):
        wanted, said = torch.eye(5)[:1], 8 * torch.eye(5)[level - 1 : level]
        return loss(said, wanted).item()

    binary = [cost(BinaryOpinionLoss(), level) for level in range(1, 6)]
    plain = [cost(OpinionLoss(), level) for level in range(2, 6)]
    assert binary == sorted(binary)
    assert len(set(binary)) == 5
    assert max(plain) - min(plain) < 1e-6


def test_layer_scale_is_a_factor_of_each_half():
    torch.manual_seed(0)
    plain = build_quality(TRIQ).eval()
    scaled = build_quality({**TRIQ, "layer_scale": 1.0}).eval()
    added = {name for name in scaled.state_dict() if name.endswith("gamma")}
    assert len(added) == 2
    missing, unexpected = scaled.load_state_dict(plain.state_dict(), strict=False)
    assert set(missing) == added
    assert not unexpected
    image = torch.rand(1, 3, 16, 16)
    torch.testing.assert_close(scaled(image), plain(image))
    for name in added:
        scaled.get_parameter(name).data.zero_()
    layer = scaled.transformer.layers[0]
    tokens = torch.rand(1, 3, 8)
    torch.testing.assert_close(layer(tokens), layer.layer_norm2(layer.layer_norm1(tokens)))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_colours_change_and_come_back(dtype):
    random = np.random.default_rng(0)
    pixels = random.random((5, 6, 3)).astype(np.float32)
    if dtype != np.float32:
        pixels = (pixels * np.iinfo(dtype).max).astype(dtype)
    seen = set()
    for _ in range(60):
        colours = Colours.draw(random)
        seen.add(colours)
        changed = colours.of(pixels)
        assert changed.dtype == dtype
        back = Colours(tuple(np.argsort(colours.order).tolist()), colours.negative).of(changed)
        np.testing.assert_allclose(back, pixels, atol=1e-6)
        assert np.array_equal(
            np.sort(changed, axis=2), np.sort(Colours((0, 1, 2), colours.negative).of(pixels), axis=2)
        )
    assert len(seen) == 12


def test_a_negative_is_as_damaged():
    draw = torch.Generator().manual_seed(0)
    x, y = torch.rand(1, 1, 32, 32, generator=draw), torch.rand(1, 1, 32, 32, generator=draw)
    torch.testing.assert_close(gmsd(1 - x, 1 - y), gmsd(x, y), atol=2e-3, rtol=0)


@pytest.fixture
def photos(tmp_path):
    for seed in range(2):
        pixels = np.random.default_rng(seed).integers(0, 256, (24, 24, 3), dtype=np.uint8)
        write_image(tmp_path / "photos" / f"{seed}.png", pixels)
    return tmp_path / "photos"


def test_reference_and_image_have_the_same_colours(photos):
    block = {"name": "ladder", "dataroot_gt": str(photos), "kinds": ["blur"], "num_levels": 2, "crop_px": 16}
    plain, coloured = SyntheticQualityDataset(**block), SyntheticQualityDataset(**block, use_colours=True)
    clean = next(index for index, (_, severity) in enumerate(plain.rungs) if severity == 0)
    changed = 0
    for position in range(12):
        draw = Draw(index=clean, seed=0, position=position)
        one, two = plain[draw], coloured[draw]
        assert np.array_equal(two["image"], two["reference"])
        assert one["opinion"] == two["opinion"]
        changed += not np.array_equal(one["image"], two["image"])
    assert changed > 6
    assert np.array_equal(plain[clean]["image"], coloured[clean]["image"]), "validation is not changed"


def test_a_run_goes_on_bit_by_bit(tmp_path):
    learning = {
        "clip_norm": 1.0,
        "optim_g": {"type": "LAMB", "lr": 3e-3, "weight_decay": 0.02},
        "quality_opt": {"type": "BinaryOpinionLoss"},
    }
    path = judge_option_file(tmp_path, {**TRIQ, "layer_scale": 1e-4}, learning, use_colours=True)
    assert resumed_bit_by_bit(path, tmp_path / "experiments/tiny", 4)
