"""Masked pre-training: what is hidden reaches nothing, and what was hidden is told."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from training_runs import FROM_CLEAN_IMAGES, resumed_bit_by_bit, run

from restore.encoders import build_encoder
from restore.errors import OptionsError
from restore.layers.masking import drawn_mask, masked
from restore.layers.norms import GlobalResponseNorm
from restore.losses.masked import MaskedPatchLoss, in_patches
from restore.networks.checkpoint import read_state_dict
from restore.options import load
from restore.quality import build_quality
from restore.registry import NETWORKS
from restore.training.objectives import MaskedPretraining, MaskedQualityPretraining

BLOCK = {"type": "MaskedPatchLoss", "decoder_width": 8}
PYRAMID = {"type": "conv_pyramid", "widths": [4, 8]}
ENCODERS = {
    "convolutions": PYRAMID,
    "large kernels": {"type": "slak", "dims": [4, 4, 4, 4], "depths": [1, 1, 1, 1], "kernel_sizes": [7, 7, 5, 5],
                      "small_size": 3},
    "ConvNeXt V2": {"type": "timm", "name": "convnextv2_atto", "model_args": {"dims": [8, 8, 8, 8], "depths": [1] * 4}},
    "windows": {"type": "timm", "name": "swin_tiny_patch4_window7_224", "img_size": 64,
                "model_args": {"embed_dim": 12, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 1, 1], "window_size": 2}},
}  # fmt: skip


def drawn(*size, seed=0):
    return torch.rand(*size, generator=torch.Generator().manual_seed(seed))


def unet(encoder=PYRAMID):
    torch.manual_seed(0)
    block = {"type": "UNetRestorer", "encoder": encoder, "width": 4, "max_width": 8, "depth": 1}
    return NETWORKS.build(block)


@pytest.mark.parametrize(("grid", "share"), [((4, 4), 0.6), ((1, 2), 0.5), ((3, 5), 0.75), ((2, 2), 0.99)])
def test_as_much_is_hidden_in_each_image(grid, share):
    mask = drawn_mask(50, *grid, share)
    places = grid[0] * grid[1]
    assert mask.shape == (50, 1, *grid)
    assert ((1 - mask).sum(dim=(1, 2, 3)) == max(1, int(places * (1 - share)))).all()
    assert len({tuple(each.flatten().tolist()) for each in mask}) > 1


def test_a_masked_convolution_is_sparse_convolution():
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 4, 3, padding=1)
    x, mask = drawn(2, 3, 8, 8), drawn_mask(2, 4, 4, 0.5)
    with masked(conv, mask):
        found = conv(x)
    visible = 1 - F.interpolate(mask, (8, 8))
    slow = torch.zeros_like(found)
    for b, row, column in visible[:, 0].nonzero().tolist():
        slow[b, :, row, column] = conv.bias
        for down in (-1, 0, 1):
            for across in (-1, 0, 1):
                at = row + down, column + across
                if all(0 <= each < 8 for each in at) and visible[b, 0, at[0], at[1]]:
                    slow[b, :, row, column] += conv.weight[:, :, down + 1, across + 1] @ x[b, :, at[0], at[1]]
    torch.testing.assert_close(found, slow)
    assert torch.equal(conv(x), F.conv2d(x, conv.weight, conv.bias, padding=1)), "nothing stays behind"


def test_the_norm_of_responses_counts_visible_places_alone():
    torch.manual_seed(0)
    norm = GlobalResponseNorm(5)
    nn.init.normal_(norm.weight)
    x, mask = drawn(3, 4, 4, 5), drawn_mask(3, 2, 2, 0.5)
    with masked(norm, mask):
        found = norm(x)
    visible = F.interpolate(1 - mask, (4, 4))[:, 0] > 0
    for image, where, value in zip(x, visible, found, strict=True):
        torch.testing.assert_close(value[where], norm(image[where][None])[0])
        assert (value[~where] == 0).all()


@pytest.mark.parametrize("name", ENCODERS)
def test_no_hidden_pixel_reaches_anything(name):
    network = unet(ENCODERS[name])
    objective = MaskedPretraining({"g": network}, BLOCK)
    image, other = drawn(2, 3, 64, 64), drawn(2, 3, 64, 64, seed=1)
    torch.manual_seed(3)
    hidden = F.interpolate(drawn_mask(2, 64 // objective.patch_px, 64 // objective.patch_px, 0.6), (64, 64)) > 0
    seen = []
    network.encoder.register_forward_hook(lambda _, inputs, maps: seen.append(maps[-1]))
    for each in (image, torch.where(hidden, other, image), torch.where(hidden, image, other)):
        torch.manual_seed(3)
        objective.losses({"lq": each})
    assert torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[0], seen[2])


@pytest.mark.parametrize("name", ENCODERS)
def test_every_parameter_of_the_encoder_learns_and_the_rest_stays(name):
    network = unet(ENCODERS[name])
    objective = MaskedPretraining({"g": network}, BLOCK)
    objective.losses({"lq": drawn(2, 3, 64, 64)})["l_masked"].backward()
    for each, parameter in network.named_parameters():
        assert (parameter.grad is not None) == each.startswith("encoder."), each
    assert all(parameter.grad is not None for parameter in objective.heads["decoder"].parameters())


@pytest.mark.parametrize("normalised", [True, False])
def test_the_loss_is_of_hidden_patches_alone(normalised):
    loss, image, mask = MaskedPatchLoss(normalised=normalised), drawn(2, 3, 16, 16), drawn_mask(2, 4, 4, 0.6)
    wanted = in_patches(image, 4)
    if normalised:
        wanted = (wanted - wanted.mean(1, keepdim=True)) / wanted.var(1, keepdim=True).add(1e-6).sqrt()
        flat = in_patches(image, 4).flatten(2)
        torch.testing.assert_close(wanted.flatten(2).mean(1), torch.zeros(2, 16), atol=1e-6, rtol=0)
        assert flat.std(1).min() > 0
    wrong = torch.where(mask > 0, wanted, wanted + 7)
    assert loss(wrong, image, mask) < 1e-10
    torch.testing.assert_close(loss(wanted + 2, image, mask), torch.tensor(4.0))


def test_it_learns_to_tell():
    torch.manual_seed(0)
    objective = MaskedPretraining({"g": unet()}, {**BLOCK, "normalised": False, "share": 0.5})
    optimizer = torch.optim.Adam(objective.parameters(), lr=1e-2)
    image = drawn(8, 3, 1, 1).expand(8, 3, 16, 16).contiguous()  # what is seen says it all
    losses = []
    for _ in range(60):
        loss = objective.losses({"lq": image})["l_masked"]
        losses.append(loss.item())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert sum(losses[-5:]) < 0.2 * sum(losses[:5])


@pytest.mark.parametrize(
    ("network", "block", "message"),
    [
        (lambda: NETWORKS.build({"type": "RepConvSR", "num_feat": 4, "num_block": 1}), {}, "RepConvSR has no encoder"),
        (unet, {"patch_px": 6}, r"masked_opt\.patch_px: a multiple of the encoder's coarsest stride, 4; given: 6"),
        (unet, {"share": 1.0}, "between 0 and 1; given: 1.0"),
        (
            lambda: build_quality({"type": "IQT", "encoder": PYRAMID, "input_px": 16, "num_crops": 1}),
            {},
            "freeze_encoder: the encoder is all that learns",
        ),
    ],
)
def test_what_does_not_go_together(network, block, message):
    with pytest.raises(OptionsError, match=message):
        MaskedPretraining({"g": network()}, {**BLOCK, **block})


def test_images_of_other_sizes_are_refused():
    with pytest.raises(OptionsError, match="images of 30x32 px are no two or more patches of 4 px"):
        MaskedPretraining({"g": unet()}, BLOCK).losses({"lq": drawn(1, 3, 30, 32)})


def test_judges_learn_too():
    judge = build_quality({"type": "TRIQ", "encoder": PYRAMID, "width": 8, "num_heads": 2, "grid": [2, 2]})
    objective = MaskedQualityPretraining({"g": judge}, BLOCK)
    assert objective.needs == {"image": "image"}
    objective.losses({"image": drawn(1, 3, 16, 16)})["l_masked"].backward()
    assert judge.encoder.stages[0][0].weight.grad is not None


OPTIONS = (
    *FROM_CLEAN_IMAGES,
    "model_type=MaskedPretraining",
    "train.masked_opt={type: MaskedPatchLoss, decoder_width: 8}",
)


def test_a_run_goes_on_bit_by_bit_and_its_weights_are_a_start(option_file, tmp_path):
    root = tmp_path / "experiments/tiny"
    assert resumed_bit_by_bit(option_file, root, 6, *OPTIONS)
    weights = root / "models/net_g_latest.pth"
    start = [each for each in OPTIONS if "masked" not in each.lower() and "pixel_opt" not in each]
    start += ["name=tuned", "train.total_iter=1", "train.optim_g.lr=0", f"path.pretrain_network_g={weights}"]
    assert run(option_file, "model_type=SRModel", *start) == 0
    ours = read_state_dict(weights, "params")
    tuned = read_state_dict(tmp_path / "experiments/tuned/models/net_g_latest.pth", "params")
    assert all(torch.equal(tuned[name], value) for name, value in ours.items() if name.startswith("encoder."))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.masked_opt=~", r"masked_opt: missing: \{type: MaskedPatchLoss\}"),
        ("train.masked_opt={type: L1Loss}", "L1Loss compares images, not hidden patches"),
        ("train.pixel_opt={type: L1Loss}", "pixel_opt: MaskedPretraining learns from masked_opt alone"),
        ("train.masked_opt={type: MaskedPatchLoss, shar: 0.5}", "Did you mean 'share'"),
    ],
)
def test_mistakes_in_options(option_file, override, message):
    with pytest.raises(OptionsError, match=message):
        load(option_file, [*OPTIONS, override], is_train=True)


def test_encoders_are_built_as_the_tests_name_them():
    for block in ENCODERS.values():
        assert build_encoder(block).strides
