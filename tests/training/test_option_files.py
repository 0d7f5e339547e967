"""The option files for training do train: one iteration of each kind on small images, networks made small."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from restore.assembly.trainings import train
from restore.images import write_image
from restore.options import load

OPTIONS = Path(__file__).parents[2] / "options"
TINY_SWINIR = ["network_g.depths=[2]", "network_g.num_heads=[2]", "network_g.embed_dim=12"]
TINY_UFORMER = [
    "network_g.depths=[1,1,1,1,1,1,1,1,1]",
    "network_g.embed_dim=4",
    "network_g.num_heads=[1,1,1,1,1,1,1,1,1]",
]
SMALL_UNET = ["network_g.encoder.pretrained=false", "network_g.width=8", "network_g.depth=1"]


@pytest.fixture
def photographs(tmp_path):
    """Overrides that put two small images in the place of the datasets."""
    random = np.random.default_rng(0)
    for kind in ("gt", "lq"):
        for number in range(2):
            coarse = random.integers(0, 256, (15, 16, 3), dtype=np.uint8)
            write_image(tmp_path / kind / f"{number}.png", coarse.repeat(8, 0).repeat(8, 1))

    def overrides(paired):
        roots = {"dataroot_gt": "gt"} | ({"dataroot_lq": "lq"} if paired else {})
        return [
            f"datasets.{key}.{root}={tmp_path / folder}" for key in ("train", "val") for root, folder in roots.items()
        ]

    return overrides


def one_iteration(name, tmp_path, *overrides):
    few = [
        "num_gpu=0",
        "train.total_iter=1",
        "datasets.train.batch_size_per_gpu=1",
        "datasets.train.num_worker_per_gpu=0",
        "datasets.train.cache=none",
        "logger.use_tb_logger=false",
        f"path.experiments_root={tmp_path / 'experiments'}",
        "path.pretrain_network_g=~",
    ]
    options = load(OPTIONS / f"{name}.yml", [*few, *overrides], is_train=True)
    assert train(options) == 0
    saved = torch.load(tmp_path / "experiments" / options.name / "models/net_g_latest.pth", weights_only=True)
    assert all(torch.isfinite(value).all() for value in saved["params"].values())


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("train_swinir_classical_x3", ["datasets.train.gt_size=24"]),
        ("train_swinir_light_x2", ["datasets.train.gt_size=16"]),
        ("train_swinir_denoise_grey_25", ["datasets.train.gt_size=16"]),
        ("train_swinir_denoise_colour_blind", ["datasets.train.gt_size=16"]),
        ("train_swinir_jpeg_grey_40", ["datasets.train.gt_size=21", "datasets.train.crop_pad_size=29"]),
        ("train_swinir_jpeg_colour_10", ["datasets.train.gt_size=21", "datasets.train.crop_pad_size=29"]),
        ("train_swinir_real_psnr_x2", ["datasets.train.gt_size=16", "datasets.train.crop_pad_size=64"]),
    ],
)
def test_swinir_learns_every_task(name, overrides, photographs, tmp_path):
    one_iteration(name, tmp_path, *photographs(paired=False), *TINY_SWINIR, *overrides, "val.metrics.niqe=~")


@pytest.mark.parametrize("name", ["train_uformer_denoise_real", "train_uformer_derain"])
def test_uformer_learns_from_pairs(name, photographs, tmp_path):
    one_iteration(name, tmp_path, *photographs(paired=True), *TINY_UFORMER, "datasets.train.gt_size=64")


@pytest.mark.parametrize(
    ("name", "gt_size"),
    [
        ("train_unet_convnext_atto_denoise", 64),
        pytest.param("train_unet_swin_tiny_denoise", 64, marks=pytest.mark.slow),
        pytest.param("train_unet_coatnet_0_denoise", 64, marks=pytest.mark.slow),
    ],
)
def test_networks_around_encoders_learn(name, gt_size, photographs, tmp_path):
    one_iteration(name, tmp_path, *photographs(paired=False), *SMALL_UNET, f"datasets.train.gt_size={gt_size}")
