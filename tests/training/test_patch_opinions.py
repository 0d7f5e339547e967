"""Dense labels for quality models: PatchOpinionLoss, MixToken, and pictures of where an image is bad."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from training_runs import judge_option_file, resumed_bit_by_bit

from restore.cli import main
from restore.errors import ImageError, OptionsError
from restore.images import read_image, write_image
from restore.layers.boxes import area_of, box_of, exchanged
from restore.losses.opinion import OpinionLoss, PatchOpinionLoss, level_logits, local_agreement, local_opinions
from restore.metrics import gmsd
from restore.quality import build_quality
from restore.quality.loading import save_quality
from restore.training.objectives import Quality

TINY = {
    "type": "TRIQ",
    "encoder": {"type": "conv_pyramid", "widths": [4, 8]},
    "num_layers": 1,
    "width": 8,
    "num_heads": 2,
    "ffn_width": 8,
    "grid": [4, 4],
    "dropout": 0.0,
}


def drawn(*size, seed=0):
    return torch.rand(*size, generator=torch.Generator().manual_seed(seed))


def triq(**options):
    torch.manual_seed(0)
    return build_quality({**TINY, "patches": True, **options})


def batch_of(num=4, side=32):
    reference = drawn(num, 3, side, side)
    opinion = torch.linspace(0.1, 0.9, num)
    return {
        "image": reference + (1 - opinion).view(-1, 1, 1, 1) * (drawn(num, 3, side, side, seed=1) - 0.5),
        "reference": reference,
        "opinion": opinion,
        "distribution": level_logits(opinion).softmax(1),
    }


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (8, 2)])
def test_what_was_exchanged_comes_back(size):
    for seed in range(8):
        maps, box = drawn(5, 2, *size, seed=seed), box_of(drawn(4, seed=seed).tolist(), *size)
        mixed = exchanged(maps, box)
        assert torch.equal(exchanged(mixed, box), maps)
        assert 0 < area_of(box, *size) <= 1
        moved = (mixed[0] != maps[0]).any(0).float().mean().item()
        assert moved == pytest.approx(area_of(box, *size))


def test_patches_add_one_layer_and_change_nothing_else():
    plain, dense = build_quality(TINY), triq()
    added = set(dense.state_dict()) - set(plain.state_dict())
    assert added == {"transformer.patch_head.weight", "transformer.patch_head.bias"}
    plain.load_state_dict({key: value for key, value in dense.state_dict().items() if key not in added})
    image = drawn(2, 3, 24, 40)
    logits, patches = dense(image, patches=True)
    assert torch.equal(logits, plain(image))
    assert patches.shape[:2] == (2, 5)
    assert patches[0, 0].numel() == dense.tokens(24, 40)
    assert dense.judge_patches(image).shape == patches[:, 0].shape
    with pytest.raises(ImageError, match="says nothing of parts"):
        plain.judge_patches(image)


def test_tokens_of_one_image_mixed_with_themselves_change_nothing():
    image = drawn(1, 3, 32, 32).expand(4, -1, -1, -1)
    for mix in ([0.0, 0.0, 0.0, 0.0], [0.5, 0.7, 0.2, 0.9], [1.0, 1.0, 0.0, 0.0]):
        for one, two in zip(triq()(image, patches=True, mix=mix), triq()(image, patches=True), strict=True):
            torch.testing.assert_close(one, two)


def test_tokens_that_are_mixed_wholly_are_those_of_the_other_image():
    image, whole = drawn(4, 3, 32, 32), [1.0, 1.0, 0.0, 0.0]
    logits, patches = triq()(image, patches=True, mix=whole)
    other, unmixed = triq()(image, patches=True)
    torch.testing.assert_close(logits, other.flip(0))
    torch.testing.assert_close(patches, unmixed)


def test_opinions_of_images_are_mixed_by_area_and_those_of_patches_stay():
    loss, mix, size = PatchOpinionLoss(dense_weight=0.25), [0.5, 0.5, 0.0, 0.0], (4, 4)
    logits, patches = drawn(2, 5), drawn(2, 5, *size)
    shares, local = drawn(2, 5, seed=1).softmax(1), drawn(2, 5, *size, seed=2).softmax(1)
    found = loss.dense(logits, patches, shares, local, mix)
    assert area_of(box_of(mix, *size), *size) == 0.25
    torch.testing.assert_close(found["quality"], OpinionLoss()(logits, 0.75 * shares + 0.25 * shares.flip(0)))
    flat = patches.permute(0, 2, 3, 1).reshape(-1, 5), local.permute(0, 2, 3, 1).reshape(-1, 5)
    torch.testing.assert_close(found["patches"], 0.25 * OpinionLoss()(*flat))


def test_without_a_weight_for_patches_it_is_the_plain_loss():
    one = Quality({"g": triq()}, {"quality_opt": {"type": "PatchOpinionLoss", "dense_weight": 0.0}})
    two = Quality({"g": triq()}, {"quality_opt": {"type": "OpinionLoss"}})
    for objective in (one, two):
        sum(objective.losses(batch_of()).values()).backward()
    for ours, plain in zip(one.parameters(), two.parameters(), strict=True):
        assert torch.equal(ours.grad, torch.zeros_like(ours) if plain.grad is None else plain.grad)


def test_opinions_of_patches_lie_about_that_of_the_image():
    reference = drawn(3, 3, 64, 64)
    opinion = torch.tensor([0.5, 0.6, 1.0])
    same_everywhere = local_opinions(opinion, reference, reference, (4, 4))
    torch.testing.assert_close(same_everywhere, opinion.view(3, 1, 1).expand(3, 4, 4))
    half = reference.clone()
    half[..., :32] = 0.7 * half[..., :32] + 0.3 * drawn(3, 3, 64, 32, seed=1)
    opinions = local_opinions(opinion, half, reference, (4, 4))
    assert ((opinions >= 0) & (opinions <= 1)).all()
    assert (opinions[..., :2].amax(dim=(1, 2)) < opinions[..., 2:].amin(dim=(1, 2)) + 1e-6).all()
    torch.testing.assert_close(opinions[0].mean(), opinion[0])  # nothing was cut off


def test_agreement_is_that_of_gmsd():
    x, y = drawn(2, 3, 32, 32), drawn(2, 3, 32, 32, seed=1)
    similarity = 1 - (1 - local_agreement(x, y, (16, 16))).square()
    torch.testing.assert_close(similarity.flatten(1).std(dim=1), gmsd(x, y).to(similarity), atol=1e-5, rtol=1e-5)


def test_patches_learn_where_the_images_are_bad():
    objective = Quality({"g": triq()}, {"quality_opt": {"type": "PatchOpinionLoss", "mix_tokens": 0.5}})
    optimizer = torch.optim.Adam(objective.parameters(), lr=3e-3)
    batch = batch_of(8)
    for _ in range(120):
        sum(objective.losses(batch).values()).backward()
        optimizer.step()
        optimizer.zero_grad()
    half = batch["reference"].clone()
    half[..., :16] = batch["image"][:1, ..., :16]
    scores = objective.networks["g"].judge_patches(half)
    assert scores[..., : scores.shape[-1] // 2].mean() < scores[..., scores.shape[-1] // 2 :].mean()


@pytest.mark.parametrize(
    ("network", "losses", "message"),
    [
        ({}, {"quality_opt": {"type": "PatchOpinionLoss"}}, r"train\.quality_opt\.type: .*TRIQ with patches: true"),
        (
            {"patches": True},
            {"quality_opt": {"type": "PatchOpinionLoss", "mix_tokens": 1.0}, "more_opt": {"type": "OpinionLoss"}},
            r"train\.quality_opt\.mix_tokens: .*more_opt would take for one",
        ),
    ],
)
def test_what_does_not_go_together(network, losses, message):
    with pytest.raises(OptionsError, match=message):
        Quality({"g": build_quality({**TINY, **network})}, losses)


def test_mixing_more_than_always_is_refused():
    with pytest.raises(ValueError, match=r"from 0 to 1; given: 1\.5"):
        PatchOpinionLoss(mix_tokens=1.5)


def test_a_run_that_stops_goes_on_bit_by_bit(tmp_path):
    loss = {"type": "PatchOpinionLoss", "mix_tokens": 0.5}
    path = judge_option_file(tmp_path, {**TINY, "patches": True}, {"quality_opt": loss})
    assert resumed_bit_by_bit(path, tmp_path / "experiments/tiny", 4)


def test_score_writes_where_images_are_bad(tmp_path, capsys):
    reference = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    bad = reference.copy()
    bad[:, :32] = bad[:, :32] // 4 + 90
    for folder, pixels in (("bad", bad), ("good", reference)):
        write_image(tmp_path / folder / "a.png", pixels)
        write_image(tmp_path / folder / "b.bmp", pixels[..., 0])
    command = ["score", "-r", str(tmp_path / "bad"), "--metrics", "psnr", "-o", str(tmp_path / "out")]
    assert main([*command, "-g", str(tmp_path / "good"), "--map"]) == 0
    for name in ("a.png", "b.bmp.png"):
        red = read_image(tmp_path / "out/maps" / name).pixels.astype(int)
        redness = red[..., 0] - red[..., 2]
        assert redness[:, :24].mean() > 20 > 2 > redness[:, 56:].mean()
    assert main(["score", "-r", str(tmp_path / "bad"), "--metrics", "niqe", "--map", "-o", str(tmp_path / "no")]) == 2
    assert "by their references (-g), or by a model" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()


def test_score_takes_maps_from_a_model(tmp_path, capsys):
    write_image(tmp_path / "photos/a.png", np.random.default_rng(0).integers(0, 256, (40, 33, 3), dtype=np.uint8))
    block = {**TINY, "patches": True}
    save_quality(triq(), block, tmp_path / "judge.safetensors")
    command = ["score", "-r", str(tmp_path / "photos"), "--metrics", "triq", "-o", str(tmp_path / "out"), "--map"]
    assert main([*command, str(tmp_path / "judge.safetensors")]) == 0
    assert read_image(tmp_path / "out/maps/a.png").pixels.shape == (40, 33, 3)
    assert json.loads((tmp_path / "out/scores.json").read_text())
    assert main([*command, "iqt_small"]) == 2
    assert "'iqt_small' says nothing of parts of an image" in capsys.readouterr().err
