"""Losses: closed forms, gradients, weights and reductions, agreement with the metrics."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from restore.errors import ImageError, MissingError, OptionsError
from restore.losses.adversarial import artifact_map
from restore.losses.colour import rgb_to_hsluv
from restore.losses.vgg import LAYERS, VggFeatures
from restore.metrics import ms_ssim, psnr, ssim
from restore.registry import LOSSES


def build(type_, **arguments):
    return LOSSES.build({"type": type_, **arguments})


@pytest.fixture
def pair():
    draw = torch.Generator().manual_seed(0)
    reference = torch.rand(2, 3, 24, 20, generator=draw)
    return (reference + 0.1 * torch.randn(reference.shape, generator=draw)).requires_grad_(), reference


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        ({"type": "L1Loss"}, lambda d: d.abs().mean()),
        ({"type": "L1Loss", "loss_weight": 0.5, "reduction": "sum"}, lambda d: 0.5 * d.abs().sum()),
        ({"type": "MSELoss"}, lambda d: d.square().mean()),
        ({"type": "CharbonnierLoss", "eps": 1e-3}, lambda d: (d.square() + 1e-3).sqrt().mean()),
        ({"type": "L1Loss", "reduction": "none"}, lambda d: d.abs()),
        ({"type": "PSNRLoss"}, lambda d: 10 * torch.log10(d.square().mean((1, 2, 3)) + 1e-8).mean()),
        (
            {"type": "FFTLoss", "norm": "ortho"},
            lambda d: torch.view_as_real(torch.fft.rfft2(d, norm="ortho")).abs().mean(),
        ),
    ],
    ids=lambda value: value["type"] if isinstance(value, dict) else "",
)
def test_closed_forms(pair, block, expected):
    restored, reference = pair
    loss = LOSSES.build(block)(restored, reference)
    torch.testing.assert_close(loss, expected(restored - reference))
    loss.sum().backward()
    assert torch.isfinite(restored.grad).all()


@pytest.mark.parametrize("name", ["L1Loss", "MSELoss", "CharbonnierLoss", "FFTLoss", "EdgeLoss", "SSIMLoss"])
def test_no_difference_no_loss(pair, name):
    _, reference = pair
    assert build(name)(reference, reference).item() == pytest.approx(0, abs=2e-3 if name == "EdgeLoss" else 1e-5)


def test_weight_maps(pair):
    restored, reference = pair
    weight = torch.zeros(1, 1, 24, 20)
    weight[..., :5] = 2
    part = (restored - reference).abs()[..., :5].mean()
    torch.testing.assert_close(build("L1Loss")(restored, reference, weight), part)


def test_psnr_losses_are_the_metrics(pair):
    restored, reference = (image.detach().clamp(0, 1) for image in pair)
    value = psnr(restored, reference, border_px=0)
    assert build("PSNRLoss")(restored, reference).item() == pytest.approx(-float(value.mean()), abs=1e-2)
    luma = psnr(restored, reference, border_px=0, luma=True)
    assert build("PSNRLoss", toY=True)(restored, reference).item() == pytest.approx(-float(luma.mean()), abs=1e-2)


def test_similarity_losses_are_the_metrics():
    draw = torch.Generator().manual_seed(0)
    reference = F.avg_pool2d(torch.rand(2, 3, 400, 400, generator=draw), 2)
    restored = (reference + 0.05 * torch.randn(reference.shape, generator=draw)).clamp(0, 1)
    value = ssim(restored, reference, border_px=0)
    assert build("SSIMLoss")(restored, reference).item() == pytest.approx(1 - float(value.mean()), abs=1e-5)
    value = ms_ssim(restored, reference, border_px=0, luma=False)
    assert build("MSSSIMLoss")(restored, reference).item() == pytest.approx(1 - float(value.mean()), abs=1e-5)


def test_multi_scale_similarity_of_opposites_has_a_gradient():
    reference = torch.rand(1, 1, 64, 64)
    restored = (1 - reference).requires_grad_()
    build("MSSSIMLoss", weights=[0.5, 0.5])(restored, reference).backward()
    assert torch.isfinite(restored.grad).all()
    with pytest.raises(ImageError, match="at least 11x11 px"):
        build("SSIMLoss")(torch.rand(1, 3, 10, 10), torch.rand(1, 3, 10, 10))


def test_similarity_of_luma_is_that_of_grey_images():
    draw = torch.Generator().manual_seed(0)
    reference = F.avg_pool2d(torch.rand(2, 1, 400, 400, generator=draw), 2)
    restored = (reference + 0.01 * torch.randn(reference.shape, generator=draw)).clamp(0, 1)  # no contrast is negative
    of_grey = build("MSSSIMLoss")(restored, reference)
    luma = [image.expand(-1, 3, -1, -1) for image in (restored, reference)]
    for of_luma in (True, False):
        loss = build("MSSIMLoss", include_luminance=True, test_y_channel=of_luma)(*luma)
        assert loss.item() == pytest.approx(of_grey.item(), abs=5e-5)
    brighter = [luma[1] * 0.9 + 0.1, luma[1] * 0.9]  # luminance alone
    assert build("MSSIMLoss")(*brighter) < 1e-3 < build("MSSIMLoss", include_luminance=True)(*brighter)


@pytest.mark.parametrize("side", [64, 37])
def test_similarity_of_luma_of_small_images(side):
    torch.manual_seed(0)
    reference = torch.rand(1, 3, side, side)
    restored = (1 - reference).requires_grad_()
    loss = build("MSSIMLoss")(restored, reference)
    loss.backward()
    assert 0.5 < loss <= 1
    assert torch.isfinite(restored.grad).all()
    assert build("MSSIMLoss", loss_weight=3)(reference, reference).item() == pytest.approx(0, abs=1e-5)


def test_losses_in_float32_in_mixed_precision(vgg_weights):
    torch.manual_seed(0)
    reference, restored = torch.rand(2, 1, 3, 64, 64)
    block = {"layer_weights": {"conv2_1": 1}, "vgg_type": "vgg11", "weights": vgg_weights}
    for loss in (build("MSSIMLoss"), build("HSLuvLoss"), build("PerceptualLoss", float32=True, **block)):
        plain = loss(restored, reference)
        with torch.autocast("cpu", torch.bfloat16):
            torch.testing.assert_close(loss(restored, reference), plain, atol=0, rtol=0)
    loss = build("PerceptualLoss", **block)
    with torch.autocast("cpu", torch.bfloat16):
        assert loss(restored, reference)["percep"] != plain["percep"]


def test_hues_are_those_of_hsluv():
    """Values of hsluv.org's reference snapshot."""
    rgb = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [0.5, 0.5, 0.5], [0, 0, 0]]).T[None, :, :, None]
    hue, saturation, lightness = (each[0, :, 0] for each in rgb_to_hsluv(rgb))
    torch.testing.assert_close(hue[:3] * 360, torch.tensor([12.17705, 127.71501, 265.87432]), atol=2e-3, rtol=0)
    torch.testing.assert_close(saturation, torch.tensor([1.0, 1, 1, 0, 0]), atol=2e-4, rtol=0)
    torch.testing.assert_close(
        lightness * 100, torch.tensor([53.23712, 87.73552, 32.30087, 53.38896, 0]), atol=2e-3, rtol=0
    )


@pytest.mark.parametrize("criterion", ["l1", "l2", "charbonnier"])
def test_colours_differ_by_hue_saturation_and_lightness(criterion):
    torch.manual_seed(0)
    reference = torch.rand(2, 3, 12, 12)
    restored = torch.rand(2, 3, 12, 12, requires_grad=True)
    loss = build("HSLuvLoss", criterion=criterion)
    parts = loss(restored, reference)
    assert set(parts) == {"hue", "saturation", "lightness"}
    sum(parts.values()).backward()
    assert torch.isfinite(restored.grad).all()
    same = loss(reference, reference)
    assert all(part.item() == pytest.approx(0, abs=1e-6) for part in same.values())
    grey = reference.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    darker = loss(grey * 0.5, grey)
    assert darker["lightness"] > 0.01
    assert (darker["hue"].item(), darker["saturation"].item()) == (0, pytest.approx(0, abs=1e-3))
    weighted = build("HSLuvLoss", criterion=criterion, loss_weight=2, hue_weight=1)(restored, reference)
    torch.testing.assert_close(weighted["hue"], 6 * parts["hue"])
    with pytest.raises(ImageError, match="of 3 channels; given: 1"):
        loss(grey[:, :1], grey[:, :1])


def test_total_variation():
    ramp = torch.arange(5.0).expand(1, 1, 4, 5)
    assert build("WeightedTVLoss")(ramp).item() == pytest.approx(1)
    assert build("WeightedTVLoss", reduction="sum")(ramp, weight=torch.full_like(ramp, 0.5)).item() == pytest.approx(8)


def test_edges_do_not_see_flat_differences():
    flat = torch.full((1, 3, 32, 32), 0.5)
    inside = build("EdgeLoss")._laplacian(flat)[..., 4:-4, 4:-4]
    torch.testing.assert_close(inside, torch.zeros_like(inside), atol=1e-6, rtol=0)
    step = flat.clone()
    step[..., 16:] = 1
    assert build("EdgeLoss")(step, flat) > 1.5 * build("EdgeLoss")(flat + 0.25, flat)


SCORES = torch.tensor([-1.0, 0.5, 2.0])


@pytest.mark.parametrize(
    ("gan_type", "real", "fake", "generator"),
    [
        ("vanilla", F.softplus(-SCORES).mean(), F.softplus(SCORES).mean(), F.softplus(-SCORES).mean()),
        ("lsgan", (SCORES - 1).square().mean(), SCORES.square().mean(), (SCORES - 1).square().mean()),
        ("wgan", -SCORES.mean(), SCORES.mean(), -SCORES.mean()),
        ("wgan_softplus", F.softplus(-SCORES).mean(), F.softplus(SCORES).mean(), F.softplus(-SCORES).mean()),
        ("hinge", (1 - SCORES).relu().mean(), (1 + SCORES).relu().mean(), -SCORES.mean()),
    ],
)
def test_adversarial_losses(gan_type, real, fake, generator):
    loss = build("GANLoss", gan_type=gan_type, loss_weight=0.1)
    torch.testing.assert_close(loss(SCORES, True, is_disc=True), real)
    torch.testing.assert_close(loss(SCORES, False, is_disc=True), fake)
    torch.testing.assert_close(loss(SCORES, True), 0.1 * generator)
    several = build("MultiScaleGANLoss", gan_type=gan_type, loss_weight=0.1)
    torch.testing.assert_close(several([SCORES, [SCORES * 9, SCORES]], True), 0.1 * generator)


def test_feature_matching():
    one, other = [torch.ones(2, 3), torch.zeros(4)], [torch.zeros(2, 3), torch.full((4,), 3.0)]
    assert build("FeatureMatchingLoss", loss_weight=2)(one, other).item() == pytest.approx(4)
    assert build("GANFeatLoss", criterion="l2")(one, other).item() == pytest.approx(5)


def test_artefacts_are_where_the_average_is_better(pair):
    restored, reference = (image.detach() for image in pair)
    assert artifact_map(restored, reference, reference).gt(0).all()
    assert artifact_map(reference, reference, restored).eq(0).all()
    assert artifact_map(restored, reference, reference).shape == (2, 1, 24, 20)


def test_gradients_go_through_the_map_of_artefacts():
    generator = torch.Generator().manual_seed(0)
    restored, reference, averaged = torch.rand(3, 1, 2, 9, 8, dtype=torch.float64, generator=generator)
    restored.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: artifact_map(x, reference, averaged), restored)
    assert artifact_map(restored, reference, averaged).sum().requires_grad
    (same,) = torch.autograd.grad(artifact_map(restored, restored.detach(), averaged).sum(), restored)
    assert torch.isfinite(same).all()


def test_patches_of_one_image_attract():
    images = torch.eye(4)[:, None].expand(4, 3, 4)  # the patches of an image alike, those of two images orthogonal
    assert build("PatchContrastiveLoss")(images).item() == pytest.approx(math.log(3) - 1, abs=1e-5)
    mixed = torch.ones(4, 3, 4)
    assert build("PatchContrastiveLoss", loss_weight=2)(mixed).item() == pytest.approx(2 * math.log(3), abs=1e-5)
    with pytest.raises(ValueError, match="at least two"):
        build("PatchContrastiveLoss")(mixed[:1])


@pytest.fixture
def vgg_weights(tmp_path):
    """A file of random VGG weights under torchvision's names."""
    from torchvision.models.vgg import cfgs, make_layers

    torch.manual_seed(0)
    state = {f"features.{key}": value for key, value in make_layers(cfgs["A"]).state_dict().items()}
    path = tmp_path / "vgg11.pth"
    torch.save(state, path)
    return str(path)


def test_perceptual_loss_by_hand(pair, vgg_weights):
    restored, reference = pair
    block = {"vgg_type": "vgg11", "weights": vgg_weights, "perceptual_weight": 0.5, "style_weight": 2.0}
    losses = build("PerceptualLoss", layer_weights={"conv1_1": 1, "conv2_1": 0.25}, **block)(restored, reference)
    assert set(losses) == {"percep", "style"}
    weights = torch.load(vgg_weights)
    mean, std = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)

    def maps(x):
        first = F.conv2d((x - mean) / std, weights["features.0.weight"], weights["features.0.bias"], padding=1)
        pooled = F.max_pool2d(first.relu(), 2)
        return first, F.conv2d(pooled, weights["features.3.weight"], weights["features.3.bias"], padding=1)

    ours, theirs = maps(restored), maps(reference)
    content = [F.l1_loss(one, two) for one, two in zip(ours, theirs, strict=True)]
    torch.testing.assert_close(losses["percep"], 0.5 * (content[0] + 0.25 * content[1]))

    def gram(x):
        return torch.einsum("bchw,bdhw->bcd", x, x) / x[0].numel()

    style = [F.l1_loss(gram(one), gram(two)) for one, two in zip(ours, theirs, strict=True)]
    torch.testing.assert_close(losses["style"], 2 * (style[0] + 0.25 * style[1]))
    sum(losses.values()).backward()
    assert restored.grad.abs().sum() > 0


def test_perceptual_loss_that_repeats_borders(pair, vgg_weights):
    restored, reference = pair
    block = {"vgg_type": "vgg11", "weights": vgg_weights, "criterion": "charbonnier", "layer_weights": {"conv1_1": 1}}
    weights = torch.load(vgg_weights)
    mean, std = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    padded = [F.pad((image - mean) / std, [1] * 4, mode="replicate") for image in (restored, reference)]
    ours, theirs = (F.conv2d(each, weights["features.0.weight"], weights["features.0.bias"]) for each in padded)
    wanted = torch.sqrt((ours - theirs).square() + 1e-12).mean()
    torch.testing.assert_close(build("PerceptualLoss", padding="replicate", **block)(*pair)["percep"], wanted)
    assert build("PerceptualLoss", **block)(*pair)["percep"] != wanted


def test_features_stay_frozen_and_layers_are_checked(vgg_weights):
    features = VggFeatures(["relu2_1"], "vgg11", weights=vgg_weights)
    assert not any(parameter.requires_grad for parameter in features.train().parameters())
    assert not features.training
    assert len(features.features) == LAYERS["vgg11"].index("relu2_1") + 1
    with pytest.raises(OptionsError, match="vgg11 has no layer conv1_7"):
        VggFeatures(["conv1_7"], "vgg11", weights=vgg_weights)


def test_weights_that_cannot_be_had_say_where_they_belong(monkeypatch, tmp_path):
    def offline(*arguments, **options):
        raise MissingError("no route to host")

    monkeypatch.setattr("restore.networks.published.download_checked", offline)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(MissingError, match=r"Get https://download\.pytorch\.org/.*vgg19.*put it into .*checkpoints"):
        build("PerceptualLoss", layer_weights={"conv5_4": 1})


def test_layer_names_match_torchvision():
    import torchvision

    for name, layers in LAYERS.items():
        kinds = {"conv": nn.Conv2d, "relu": nn.ReLU, "pool": nn.MaxPool2d}
        with torch.device("meta"):
            features = getattr(torchvision.models, name)().features
        assert [type(layer) for layer in features] == [kinds[layer[:4]] for layer in layers]


def test_mistakes_are_named():
    with pytest.raises(OptionsError, match="loss_weight"):
        build("L1Loss", loss_wait=2)
    with pytest.raises(OptionsError, match="L1Loss"):
        build("L1Los")
    with pytest.raises(OptionsError, match="reduction"):
        build("L1Loss", reduction="average")


def test_colours_are_compared_by_the_means_of_squares():
    torch.manual_seed(0)
    image = torch.rand(2, 3, 20, 36)
    loss = LOSSES.build({"type": "ColourLoss", "loss_weight": 2.0, "side_px": 8})
    shuffled = image.clone()
    shuffled[:, :, :8, :8] = image[:, :, :8, :8].flip(2, 3)  # another detail of the same mean
    assert loss(shuffled, image) < 1e-6
    torch.testing.assert_close(loss(image + 0.1, image), torch.tensor(0.2))
    whole = LOSSES.build({"type": "ColourLoss", "side_px": 100})
    torch.testing.assert_close(whole(image, image.flip(2)), torch.tensor(0.0), atol=1e-6, rtol=0)
    with pytest.raises(OptionsError, match="side_px is 0"):
        LOSSES.build({"type": "ColourLoss", "side_px": 0})
