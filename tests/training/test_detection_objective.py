"""Detectors go through the same option files, trainer and test command as everything else."""

from __future__ import annotations

import json
import logging

import numpy as np
import pytest
import torch
import yaml
from training_runs import run, same

from restore.assembly.trainings import train
from restore.cli import main
from restore.data.sampling import Draw
from restore.detection import KINDS, load_detector
from restore.errors import DataError, OptionsError
from restore.images import write_image
from restore.options import load
from restore.registry import DATASETS

SMALL = {
    "type": "QueryDetector",
    "encoder": {"type": "conv_pyramid", "widths": [4, 6, 8], "out_indices": [1, 2]},
    "width": 8,
    "num_heads": 2,
    "num_points": 2,
    "num_queries": 6,
    "num_layers": 1,
}


@pytest.fixture
def photos(tmp_path):
    for seed in range(3):
        pixels = np.random.default_rng(seed).integers(40, 216, (12, 14, 3), dtype=np.uint8)
        write_image(tmp_path / "photos" / f"{seed}.png", pixels.repeat(5, 0).repeat(5, 1))
    return tmp_path / "photos"


@pytest.fixture
def option_file(photos, tmp_path, one_thread):
    pastes = {"type": "DefectDataset", "dataroot_gt": str(photos)}
    options = {
        "name": "tiny",
        "model_type": "DetectionModel",
        "num_gpu": 0,
        "manual_seed": 0,
        "datasets": {
            "train": {**pastes, "name": "pastes", "gt_size": 48, "batch_size_per_gpu": 2, "num_worker_per_gpu": 0},
            "val": {**pastes, "name": "whole", "seed": 1, "variables": {"times": 2}},
        },
        "network_g": SMALL,
        "path": {"experiments_root": str(tmp_path / "experiments"), "results_root": str(tmp_path / "results")},
        "train": {
            "total_iter": 4,
            "ema_decay": 0.5,
            "optim_g": {"type": "AdamW", "lr": 1e-3},
            "set_opt": {"type": "SetLoss"},
        },
        "val": {"val_freq": 2},
        "logger": {"save_checkpoint_freq": 2, "save_best": "ap50", "print_freq": 2},
    }
    path = tmp_path / "tiny.yml"
    path.write_text(yaml.safe_dump(options))
    return path


def test_training_validation_and_test(option_file, tmp_path, caplog):
    caplog.set_level(logging.INFO, "restore")
    assert train(load(option_file, is_train=True)) == 0
    assert "whole/ap50 " in caplog.text
    assert "whole/ap50_scratch" in caplog.text
    assert "l_giou" in caplog.text
    (weights,) = tmp_path.rglob("net_g_latest.pth")
    assert load_detector(weights).kinds == KINDS
    command = ["test", "-opt", str(option_file), "--set", f"path.pretrain_network_g={weights}"]
    assert main(command) == 0
    results = json.loads((tmp_path / "results/tiny/results.json").read_text())
    found = results["datasets"]["whole"]
    assert 0 <= found["ap50"] <= 1
    assert found["num_images"] == 3
    assert found["num_boxes"] > 0
    assert main([*command, "--set", "network_g=~"]) == 0


def test_a_resumed_run_is_the_same(option_file, tmp_path):
    def state(folder):
        return torch.load(folder / "tiny/training_states/4.state", weights_only=False)

    def weights(folder):
        return torch.load(folder / "tiny/models/net_g_latest.pth", weights_only=True)

    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert run(option_file, f"path.experiments_root={whole}") == 0
    assert run(option_file, f"path.experiments_root={parts}", "train.total_iter=2") == 0
    assert run(option_file, f"path.experiments_root={parts}", auto_resume=True) == 0
    assert same(weights(whole), weights(parts))
    assert same(state(whole)["optimizers"], state(parts)["optimizers"])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("datasets.train.kinds=[dust]", "boxes are of dust, and the detector knows scratch"),
        ("train.set_opt.type=L1Loss", "L1Loss compares images, not boxes"),
        ("train.pixel_opt={type: L1Loss}", "not read by DetectionModel"),
        ("datasets.train.type=DegradedImageDataset", r"needs image \(image\), boxes \(boxes\)"),
        ("network_g.type=SwinIR", "unknown detector 'SwinIR'"),
        ("network_g.num_querys=3", "num_queries"),
        ("datasets.train.recipe=nothing", "unknown pipeline 'nothing'"),
    ],
)
def test_mistakes(option_file, override, message):
    with pytest.raises(OptionsError, match=message):
        train(load(option_file, [override], is_train=True))


def test_other_images_are_not_validated_on(option_file):
    overrides = ["datasets.val.type=DegradedImageDataset", "datasets.val.variables=~"]
    with pytest.raises(OptionsError, match="DetectionModel is tested on images with boxes"):
        train(load(option_file, overrides, is_train=True))


class TestDataset:
    def test_boxes_are_of_the_patch(self, photos):
        dataset = DATASETS.build({"type": "DefectDataset", "dataroot_gt": str(photos), "gt_size": 48})
        seen = set()
        for position in range(30):
            sample = dataset[Draw(position % 3, 0, position)]
            again = dataset[Draw(position % 3, 0, position)]
            assert np.array_equal(sample["image"], again["image"])
            assert np.array_equal(sample["boxes"], again["boxes"])
            assert sample["image"].shape == (48, 48, 3)
            boxes = sample["boxes"]
            assert boxes.dtype == np.float32
            assert (boxes[:, 1:] >= 0).all()
            assert (boxes[:, 1:] <= 1).all()
            assert ((boxes[:, 3:] - boxes[:, 1:3]) * 48 >= 16 - 1e-3).all()
            seen |= {KINDS[int(kind)] for kind in boxes[:, 0]}
        assert seen == set(KINDS)

    def test_whole_images_are_always_the_same(self, photos):
        one, two, other = (
            DATASETS.build({"type": "DefectDataset", "dataroot_gt": str(photos), "seed": seed}) for seed in (1, 1, 2)
        )
        for index in range(3):
            assert np.array_equal(one[index]["image"], two[index]["image"])
            assert np.array_equal(one[index]["boxes"], two[index]["boxes"])
        assert any(not np.array_equal(one[index]["image"], other[index]["image"]) for index in range(3))

    def test_few_kinds_and_few_images(self, photos):
        dataset = DATASETS.build(
            {"type": "DefectDataset", "dataroot_gt": str(photos), "kinds": ["text"], "max_images": 2, "min_box_px": 1}
        )
        assert len(dataset) == 2
        assert all((dataset[index]["boxes"][:, 0] == 0).all() for index in range(2))

    def test_a_recipe_must_keep_the_size(self, photos):
        dataset = DATASETS.build(
            {
                "type": "DefectDataset",
                "dataroot_gt": str(photos),
                "recipe": "bicubic",
                "variables": {"scale": 4},
                "scale": 4,
            }
        )
        with pytest.raises(DataError, match="changes the size"):
            dataset[0]
