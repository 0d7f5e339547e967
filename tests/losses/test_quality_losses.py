from __future__ import annotations

import pytest
import torch

from restore.errors import CheckpointError, MissingError
from restore.metrics import lpips
from restore.quality import build_quality, load_quality
from restore.quality.loading import save_quality
from restore.registry import LOSSES

BLOCK = {
    "type": "IQT",
    "encoder": {"type": "conv_pyramid", "widths": [4, 8]},
    "num_layers": 1,
    "width": 8,
    "num_heads": 2,
    "ffn_width": 8,
    "head_width": 8,
    "input_px": 16,
    "num_crops": 2,
}


@pytest.fixture
def weights(tmp_path):
    torch.manual_seed(0)
    path = tmp_path / "tiny.safetensors"
    save_quality(build_quality(BLOCK), BLOCK, path, dtype=torch.float32)
    return str(path)


def test_a_file_says_what_it_holds(weights):
    model = load_quality(weights)
    assert model.input_px == 16
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert load_quality(weights) is model


def test_files_that_do_not_say_it_are_refused(tmp_path):
    torch.save({"params": build_quality(BLOCK).state_dict()}, tmp_path / "net_g_latest.pth")
    with pytest.raises(CheckpointError, match="does not say which quality model"):
        load_quality(tmp_path / "net_g_latest.pth")
    torch.save({"params": {"a": torch.zeros(1)}, "network": {"type": "SwinIR"}}, tmp_path / "swinir.pth")
    with pytest.raises(CheckpointError, match="it says: SwinIR"):
        load_quality(tmp_path / "swinir.pth")
    with pytest.raises(CheckpointError, match="no such weights file"):
        load_quality(tmp_path / "nothing.safetensors")
    with pytest.raises(MissingError, match="no shipped quality model 'iqt_smal'"):
        load_quality("iqt_smal")


@pytest.mark.parametrize("channels", [1, 3])
def test_iqt_as_a_loss_has_gradients_of_the_image_only(weights, channels):
    loss = LOSSES.build({"type": "iqt", "weights": weights, "loss_weight": 0.5})
    assert not list(loss.parameters())
    draw = torch.Generator().manual_seed(0)
    restored, reference = (torch.rand(2, channels, 20, 24, generator=draw) for _ in range(2))
    restored.requires_grad_()
    value = loss(restored, reference)
    value.backward()
    assert value.shape == ()
    assert restored.grad.abs().sum() > 0
    assert loss(reference, reference) == 0
    double = LOSSES.build({"type": "IQTLoss", "weights": weights})
    torch.testing.assert_close(double(restored, reference), 2 * value)


@pytest.mark.parametrize("name", ["ssim", "lpips", "dists"])
def test_metrics_stand_among_the_losses_under_their_names(name):
    assert name in LOSSES


def test_lpips_as_a_loss_is_the_metric_with_gradients(shared):
    weights = str(shared("weights/squeezenet1_1_features.pth"))
    draw = torch.Generator().manual_seed(0)
    restored, reference = (torch.rand(2, 3, 40, 40, generator=draw) for _ in range(2))
    restored.requires_grad_()
    value = LOSSES.build({"type": "lpips", "net": "squeeze", "weights": weights, "loss_weight": 2.0})(
        restored, reference
    )
    value.backward()
    expected = lpips(restored.detach(), reference, net="squeeze", weights=weights).mean()
    torch.testing.assert_close(value.detach(), 2 * expected)
    assert restored.grad.abs().sum() > 0


@pytest.mark.parametrize("name", ["lpips", "dists"])
def test_weights_that_are_missing_are_named_before_training(name, tmp_path):
    with pytest.raises(MissingError, match="vgg16"):
        LOSSES.build({"type": name, "weights": str(tmp_path)})
