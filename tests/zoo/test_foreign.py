"""Weights of networks that are not ours, through spandrel."""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import restore
from restore.cli import main
from restore.errors import CheckpointError
from restore.networks.checkpoint import infer
from restore.networks.residual import EDSR
from restore.options import load
from restore.zoo import load_network


@pytest.fixture
def dncnn(tmp_path):
    """A narrow DnCNN with the key names of KAIR."""
    pytest.importorskip("spandrel")
    torch.manual_seed(0)
    widths = (1, 8, 8, 8, 8, 8, 8, 8, 1)
    state = {}
    for index, (inputs, outputs) in enumerate(itertools.pairwise(widths)):
        state[f"model.{2 * index}.weight"] = torch.randn(outputs, inputs, 3, 3) * 0.1
        state[f"model.{2 * index}.bias"] = torch.zeros(outputs)
    torch.save(state, tmp_path / "dncnn.pth")
    return tmp_path / "dncnn.pth"


@pytest.mark.parametrize("shape", [(1, 1), (9, 14), (7, 8, 3)])
def test_foreign_networks_take_any_image(dncnn, shape):
    restorer = restore.load_model(dncnn, device="cpu")
    image = np.full(shape, 128, np.uint8)
    assert restorer(image).shape == shape
    assert restorer.scale == 1


def test_foreign_networks_want_no_option_file(dncnn):
    network = load_network(dncnn)
    assert type(network).__name__ == "DnCNN"
    assert network.spec.in_channels == 1
    assert not network.training
    with torch.no_grad():
        assert network(torch.rand(1, 1, 5, 6)).shape == (1, 1, 5, 6)


@pytest.mark.filterwarnings("ignore:torch.meshgrid")
def test_craft_does_not_pad_what_fits_already(tmp_path):
    craft = pytest.importorskip("spandrel.architectures.CRAFT").CRAFT
    torch.manual_seed(0)
    options = {"embed_dim": 48, "depths": (1,), "num_heads": (6,), "mlp_ratio": 2, "upscale": 2}
    plain = craft(window_size=16, split_size_0=4, split_size_1=16, img_range=1.0, **options).eval()
    torch.save(plain.state_dict(), tmp_path / "craft.pth")
    network, seen = load_network(tmp_path / "craft.pth"), []
    assert type(network).__name__ == "CRAFT"
    network.conv_first.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].shape[2:]))
    image = torch.rand(1, 3, 32, 48)
    with torch.no_grad():
        assert network(image).shape == (1, 3, 64, 96)
        assert network(image[..., :30, :35]).shape == (1, 3, 60, 70)
    assert seen == [(32, 48), (32, 48)]


def test_the_message_names_the_nearest_family():
    state = EDSR(num_feat=4, num_block=2).state_dict()
    del state["conv_last.weight"]
    with pytest.raises(CheckpointError, match=r"Nearest: EDSR, \d\d% of the names are alike"):
        infer(state)


def test_weights_that_nobody_knows(tmp_path):
    pytest.importorskip("spandrel")
    torch.save({"strange.weight": torch.zeros(3)}, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match=r"none of our networks(.|\n)*spandrel does not know it either"):
        load_network(tmp_path / "x.pth")


def test_without_spandrel_the_message_says_so(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "spandrel", None)
    torch.save({"strange.weight": torch.zeros(3)}, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match="pip install spandrel"):
        load_network(tmp_path / "x.pth")


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_published_figure_of_super_resolution(shared, tmp_path):
    """CRAFT on Set5 x4: 32.40 dB on luma, four pixels of border cut off, the published inputs."""
    folder = shared("data/benchmark/Set5")
    others = [f"datasets.test_{number}=~" for number in (2, 3, 4, 5)]
    inputs = ["type=PairedImageDataset", f"dataroot_lq={folder / 'LR_bicubic/X4'}", "filename_tmpl='{}x4'"]
    inputs = [f"datasets.test_1.{each}" for each in (f"dataroot_gt={folder / 'HR'}", *inputs)]
    found = _psnr("benchmarks/sr_x4", shared("weights/craft_x4.pth"), tmp_path, *inputs, *others)
    assert found == pytest.approx(32.40, abs=0.005)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_published_figure_of_denoising(shared, tmp_path):
    """DnCNN on Set12 at sigma 25: 30.43 dB. The noise is neither clipped nor rounded."""
    root = f"datasets.test_1.dataroot_gt={shared('data/benchmark/Set12')}"
    assert _psnr("test_dncnn_denoise_grey_25", shared("weights/dncnn_gray25.pth"), tmp_path, root) == pytest.approx(
        30.43, abs=0.005
    )


def _psnr(option_file, weights, folder, *overrides) -> float:
    """The figure that an option file gives on the first dataset."""
    pytest.importorskip("spandrel")
    path = Path(__file__).parents[2] / f"options/{option_file}.yml"
    running = [
        "num_gpu=0",
        "runtime.tile=~",
        "val.metrics.ssim=~",
        f"path.results_root={folder}",
    ]
    overrides = [f"path.pretrain_network_g={weights}", *running, *overrides]
    assert main(["test", "-opt", str(path), "--set", *overrides]) == 0
    results = json.loads((folder / load(path, overrides).name / "results.json").read_text())
    (dataset,) = results["datasets"].values()
    return dataset["mean"]["psnr"]["restored"]
