"""A restoration network trained by what judges its results."""

from __future__ import annotations

import json

import pytest
import torch

from restore.assembly.trainings import train
from restore.metrics.backbones import BACKBONES
from restore.options import load


@pytest.fixture
def backbone(tmp_path):
    """A function: random weights of a backbone, as a file."""
    import torchvision

    def make(name):
        kind = BACKBONES[name]
        with torch.device("meta"):  # the classifier, most of the weights, never comes to be
            features = getattr(torchvision.models, kind.model)(weights=None).features
        draw = torch.Generator().manual_seed(0)
        state = {key: torch.randn(value.shape, generator=draw) * 0.05 for key, value in features.state_dict().items()}
        path = tmp_path / kind.file_names[1]
        torch.save(state, path)
        return path

    return make


def losses_of(option_file, tmp_path, *overrides):
    """The logged losses of a training of the tiny network, for each report."""
    assert train(load(option_file, is_train=True, overrides=["train.pixel_opt.loss_weight=1.0", *overrides])) == 0
    rows = [json.loads(line) for line in next(tmp_path.rglob("history.jsonl")).read_text().splitlines()]
    return [{key: row[key] for key in row if key.startswith("l_")} for row in rows if "l_pix" in row]


def test_the_shipped_iqt_and_ssim_stand_beside_a_pixel_loss(option_file, tmp_path):
    blocks = ("train.iqt_opt={type: iqt, loss_weight: 0.1}", "train.ssim_opt={type: ssim, loss_weight: 0.5}")
    rows = losses_of(option_file, tmp_path, "datasets.train.gt_size=20", "train.total_iter=4", *blocks)
    assert all({"l_pix", "l_iqt", "l_ssim"} == set(row) for row in rows)
    assert all(row["l_iqt"] != 0 for row in rows)


@pytest.mark.parametrize(("loss", "net"), [("{type: lpips, net: squeeze, ", "squeeze"), ("{type: dists, ", "vgg")])
def test_lpips_and_dists_stand_beside_a_pixel_loss(option_file, tmp_path, backbone, loss, net):
    block = f"train.perceptual_opt={loss}weights: {backbone(net)}}}"
    rows = losses_of(option_file, tmp_path, "datasets.train.gt_size=20", "train.total_iter=2", block)
    assert all("l_percep" in " ".join(row) for row in rows)
    assert all(value > 0 for row in rows for key, value in row.items() if key != "l_pix")
