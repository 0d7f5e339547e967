"""Weights of networks that are not ours, through spandrel."""

from __future__ import annotations

import itertools
import sys

import numpy as np
import pytest
import tifffile
import torch

import restore
from restore.errors import CheckpointError
from restore.evaluation import evaluate
from restore.images import list_images, read_image
from restore.networks.checkpoint import infer
from restore.networks.residual import EDSR
from restore.registry import DATASETS
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
    assert network.family == "DnCNN"
    assert network.spec.in_channels == 1
    assert not network.training
    with torch.no_grad():
        assert network(torch.rand(1, 1, 5, 6)).shape == (1, 1, 5, 6)


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
    """CRAFT on Set5 x4: 32.40 dB on luma, four pixels of border cut off."""
    pytest.importorskip("spandrel")
    weights, folder = shared("weights/craft_x4.pth"), shared("data/benchmark/Set5")
    dataset = DATASETS.build(
        {
            "type": "PairedImageDataset",
            "name": "Set5",
            "dataroot_gt": str(folder / "HR"),
            "dataroot_lq": str(folder / "LR_bicubic/X4"),
            "filename_tmpl": "{}x4",
            "io_backend": {"type": "disk"},
        },
        scale=4,
    )
    metric = {"type": "psnr", "border_px": 4, "luma": True}
    assert _mean_psnr(weights, dataset, metric, tmp_path) == pytest.approx(32.40, abs=0.015)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_published_figure_of_denoising(shared, tmp_path):
    """DnCNN on Set12 at sigma 25: 30.43 dB. The noise is neither clipped nor rounded, hence the float files."""
    pytest.importorskip("spandrel")
    weights, folder = shared("weights/dncnn_gray25.pth"), shared("data/benchmark/Set12")
    random = np.random.RandomState(0)
    (tmp_path / "noisy").mkdir()
    for path in list_images(folder):
        clean = np.float32(read_image(path).pixels) / 255
        noisy = clean + random.normal(0, 25 / 255, clean.shape)
        tifffile.imwrite(tmp_path / "noisy" / f"{path.stem}.tif", noisy.astype(np.float32))
    dataset = DATASETS.build(
        {
            "type": "PairedImageDataset",
            "name": "Set12",
            "dataroot_gt": str(folder),
            "dataroot_lq": str(tmp_path / "noisy"),
            "io_backend": {"type": "disk"},
        },
        scale=1,
    )
    assert _mean_psnr(weights, dataset, {"type": "psnr"}, tmp_path) == pytest.approx(30.43, abs=0.015)


def _mean_psnr(weights, dataset, metric, folder) -> float:
    restorer = restore.load_model(weights, device="cpu", precision="fp32", tile=None)
    results = evaluate(restorer, [dataset], {"psnr": metric}, name="run", results_root=folder, save_images=False)
    return float(np.mean([image.restored["psnr"] for image in results.datasets[0].images]))
