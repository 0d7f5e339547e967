"""`restore finetune`: a model trained further on a folder, measured before and after."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
import yaml

import restore
from restore.cli import main
from restore.images import write_image
from restore.networks.repconv import RepConvSR
from restore.networks.swinir import SwinIR

LARGE = {"img_size": 8, "window_size": 4, "embed_dim": 8, "depths": [1], "num_heads": [2], "mlp_ratio": 1}


@pytest.fixture
def photos(tmp_path):
    """Twelve images, large enough for a patch."""
    rng = np.random.default_rng(0)
    for number in range(12):
        coarse = rng.integers(0, 256, (14, 13, 3), dtype=np.uint8)
        write_image(tmp_path / "photos" / f"{number:02}.png", coarse.repeat(8, 0).repeat(8, 1))
    return tmp_path / "photos"


@pytest.fixture
def model(tmp_path):
    torch.manual_seed(0)
    torch.save(RepConvSR(num_feat=8, num_block=1, expansion=0, upscale=2).state_dict(), tmp_path / "x2.pth")
    return tmp_path / "x2.pth"


@pytest.fixture
def denoiser(tmp_path):
    torch.manual_seed(0)
    network = SwinIR(upscale=1, upsampler="", **LARGE)
    torch.save({"params": network.state_dict(), "network": {"type": "SwinIR", "upscale": 1, "upsampler": "", **LARGE}},
               tmp_path / "x1.pth")  # fmt: skip
    return tmp_path / "x1.pth"


def finetune(model, photos, folder, *more):
    return main(["finetune", "-m", str(model), "-i", str(photos), "-o", str(folder), "--iterations", "3", *more])


def test_a_model_is_trained_further_and_measured(tmp_path, photos, model, one_thread, capsys, caplog):
    assert finetune(model, photos, tmp_path / "tuned", "--lr", "2e-3") == 0
    said = caplog.text
    before, after = (float(re.search(rf"{name} +PSNR ([\d.]+) dB", said)[1]) for name in ("before", "after"))
    assert before != after
    held_out = (tmp_path / "tuned" / "val.txt").read_text().split()
    assert held_out == ["00.png", "10.png"]
    assert len((tmp_path / "tuned" / "train.txt").read_text().split()) == 10
    tuned = tmp_path / "tuned" / "experiments" / "finetune" / "models" / "net_g_latest.pth"
    assert restore.load_model(tuned, device="cpu").scale == 2
    assert (tmp_path / "tuned" / "results" / "finetune_after" / "report.html").is_file()
    assert finetune(model, photos, tmp_path / "tuned", "--lr", "2e-3") == 0  # done: it only measures again
    assert finetune(model, photos, tmp_path / "tuned", "--lr", "1e-3") == 2
    assert "is of another fine-tuning" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [(["--task", "denoise", "--sigma", "30"], "GaussianNoiseDataset"), (["--task", "jpeg"], "DegradedImageDataset"),
     (["--lq", "photos"], "PairedImageDataset")],
)  # fmt: skip
def test_networks_of_the_same_size_are_told_their_task(tmp_path, photos, denoiser, one_thread, arguments, kind):
    arguments = [str(photos) if each == "photos" else each for each in arguments]
    assert finetune(denoiser, photos, tmp_path / "tuned", *arguments) == 0
    assert yaml.safe_load((tmp_path / "tuned" / "finetune.yml").read_text())["datasets"]["train"]["type"] == kind


def test_what_does_not_fit_is_refused(tmp_path, photos, model, denoiser, capsys):
    assert finetune(denoiser, photos, tmp_path / "a") == 2
    assert "name --task denoise or jpeg" in capsys.readouterr().err
    assert finetune(model, photos, tmp_path / "b", "--task", "jpeg") == 2
    assert "enlarges 2 times: its task is sr" in capsys.readouterr().err
    (tmp_path / "one").mkdir()
    write_image(tmp_path / "one" / "a.png", np.zeros((99, 99, 3), np.uint8))
    assert finetune(model, tmp_path / "one", tmp_path / "c") == 2
    assert "at least 2 are needed" in capsys.readouterr().err
    assert not (tmp_path / "a").exists()
    assert not (tmp_path / "c").exists()
