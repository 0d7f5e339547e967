"""The queue of trainings as a user runs it: a small training is stopped, resumed, and ends as one that ran through."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from restore.images import write_image

SCRIPT = Path(__file__).parents[2] / "scripts" / "farm.py"
OPTIONS = """
name: tiny
model_type: SRModel
scale: 2
num_gpu: 0
manual_seed: 3
datasets:
  train:
    name: noise
    type: DownsampledImageDataset
    dataroot_gt: gt
    gt_size: 16
    use_rot: true
    batch_size_per_gpu: 2
    num_worker_per_gpu: 0
network_g: {type: RepConvSR, num_feat: 4, num_block: 1, upscale: 2, expansion: 1}
train:
  total_iter: 400
  ema_decay: 0.9
  optim_g: {type: AdamW, lr: 1e-3}
  pixel_opt: {type: L1Loss}
logger: {print_freq: 10, save_checkpoint_freq: 10000, use_tb_logger: false}
"""


def farm(folder: Path, *arguments: str, code: int = 0) -> str:
    environment = {**os.environ, "RESTORE_FARM": str(folder), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, SCRIPT, *arguments], env=environment, capture_output=True, text=True)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(2):
        pixels = np.random.default_rng(number).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        write_image(tmp_path / "farm" / "gt" / f"{number}.png", pixels)
    (tmp_path / "train_tiny.yml").write_text(OPTIONS)
    return tmp_path / "farm"


def until(condition, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def weights(folder: Path, name: str) -> dict[str, torch.Tensor]:
    file = folder / "experiments" / name / "models" / "net_g_latest.pth"
    return torch.load(file, weights_only=True)["params_ema"]


def state_of(folder: Path, name: str) -> str:
    return next(job["state"] for job in json.loads((folder / "queue.json").read_text()) if job["name"] == name)


def test_stopped_and_resumed_it_ends_as_one_that_ran_through(folder):
    options = str(folder.parent / "train_tiny.yml")
    farm(folder, "add", options)
    farm(folder, "start", "--nice", "0")
    assert "is running already" in farm(folder, "start", code=1)
    until(lambda: "iter 20/400" in (folder / "tiny.log").read_text())
    farm(folder, "stop")
    assert state_of(folder, "tiny") == "waiting"
    shown = farm(folder, "show")
    assert "not running" in shown
    assert "tiny                     waiting" in shown
    farm(folder, "add", options, "--name", "whole", "--set", "logger.print_freq=100")
    farm(folder, "start", "--nice", "0")
    until(lambda: state_of(folder, "whole") == "done")
    log = (folder / "tiny.log").read_text()
    assert "resum" in log
    resumed, whole = weights(folder, "tiny"), weights(folder, "whole")
    assert resumed.keys() == whole.keys()
    assert all(torch.equal(resumed[key], whole[key]) for key in whole)


def test_a_training_that_fails_leaves_the_others_alone(folder):
    options = str(folder.parent / "train_tiny.yml")
    farm(folder, "add", options, "--name", "broken", "--set", "datasets.train.dataroot_gt=nowhere")
    farm(folder, "add", options, "--name", "short", "--set", "train.total_iter=2")
    farm(folder, "start", "--nice", "0")
    until(lambda: state_of(folder, "short") == "done")
    until(lambda: "not running" in farm(folder, "show"))
    assert state_of(folder, "broken") == "failed"
    assert "nowhere" in (folder / "broken.log").read_text()
    farm(folder, "remove", "broken")
    assert "broken" not in farm(folder, "show")


def test_mistakes(folder):
    assert "no option file" in farm(folder, "add", "missing.yml", code=1)
    options = str(folder.parent / "train_tiny.yml")
    farm(folder, "add", options)
    assert "is in the queue already" in farm(folder, "add", options, code=1)
    assert "no 'other' in the queue: tiny" in farm(folder, "remove", "other", code=1)
    assert "not running" in farm(folder, "stop", code=1)
