"""What a training refuses before it begins, and the scripts that start it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from restore.assembly.networks import chosen_device
from restore.assembly.trainings import train
from restore.errors import OptionsError
from restore.images import write_image
from restore.options import load

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("letter", ["t", "teacher", "d"])
def test_every_network_that_learns_needs_an_optimizer(letter):
    path, network = ROOT / "options/train_swinir_light_x2.yml", f"network_{letter}={{type: SRVGGNetCompact}}"
    if letter == "d":
        network = "network_d={type: UNetDiscriminatorSN, num_in_ch: 3}"
    with pytest.raises(OptionsError, match=rf"train\.optim_{letter}: missing: network_{letter} needs an optimizer"):
        load(path, [network])


@pytest.mark.parametrize("name", ["train", "test"])
def test_scripts_change_the_path_only_when_they_run(name):
    code = f"import sys; before = list(sys.path); import restore.{name}; assert sys.path == before"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
    done = subprocess.run([sys.executable, ROOT / f"restore/{name}.py", "--help"], capture_output=True, text=True)
    assert f"usage: restore {name}" in done.stdout


def test_options_of_a_test_are_no_training(empty_place):
    with pytest.raises(OptionsError, match="train: missing: these options are for a test"):
        train(load(ROOT / "options/test_edt_t_x2.yml"))
    with pytest.raises(OptionsError, match="train: missing: these options are for a test"):
        train(load(ROOT / "options/train_swinir_light_x2.yml", is_train=False))


def test_what_a_validation_cannot_measure_is_said_before_the_training(empty_place):
    """A metric of whole sets of images, a dataset of ratings."""
    random = np.random.default_rng(0)
    for number in range(2):
        write_image(empty_place / f"gt/{number}.png", random.integers(0, 256, (16, 16, 3), dtype=np.uint8))
    small = ["network_g={type: SRVGGNetCompact, num_feat: 4, num_conv: 1, upscale: 2}", "num_gpu=0"]
    small += ["datasets.train.dataroot_gt=gt", "datasets.train.gt_size=8", "datasets.val.dataroot_gt=gt"]
    for change, message in (
        ("val.metrics.fid={type: fid}", r"val\.metrics\.fid: fid compares whole sets of images"),
        (
            "datasets.val={name: v, type: SyntheticQualityDataset, dataroot_gt: gt}",
            r"datasets\.val\.type: SwinIRModel is tested on images to restore",
        ),
    ):
        options = load(ROOT / "options/train_swinir_light_x2.yml", [*small, change], is_train=True)
        with pytest.raises(OptionsError, match=message):
            train(options)
    assert not (empty_place / "experiments").exists()


@pytest.mark.parametrize(
    ("device", "num_gpu", "chosen"), [("auto", 0, "cpu"), ("cpu", "auto", "cpu"), ("cpu", 0, "cpu")]
)
def test_one_rule_for_the_device(device, num_gpu, chosen):
    changes = [f"runtime.device={device}", f"num_gpu={num_gpu}"]
    assert chosen_device(load(ROOT / "options/swinir_x4.yml", changes)).type == chosen
