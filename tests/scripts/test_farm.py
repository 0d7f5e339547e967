"""The queue of trainings as a user runs it; most tests put a script that only counts in the place of a training."""

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


COUNTING = """
import pathlib, signal, sys, time
name = next(each for each in sys.argv if each.startswith("name=")).removeprefix("name=")
done = pathlib.Path(f"{name}.count")
assert "--auto_resume" in sys.argv and "fail=yes" not in sys.argv
stopped = []
signal.signal(signal.SIGTERM, lambda *_: stopped.append(1))
for number in range(int(done.read_text()) if done.exists() else 0, 20):
    print(f"iter {number + 1}/20  eta 0:00:01", flush=True)
    time.sleep(0.02)
    while number == 9 and not stopped and "wait=yes" in sys.argv:
        time.sleep(0.02)
    if stopped:
        done.write_text(str(number + 1))
        sys.exit(130)
"""


def farm(folder: Path, *arguments: str, code: int = 0, script: Path | None = None) -> str:
    environment = {**os.environ, "RESTORE_FARM": str(folder), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, script or folder.parent / "scripts" / "farm.py", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A queue's folder beside a checkout whose `restore/train.py` counts to 20."""
    (tmp_path / "scripts").mkdir()
    (tmp_path / "restore").mkdir()
    (tmp_path / "scripts" / "farm.py").write_bytes(SCRIPT.read_bytes())
    (tmp_path / "restore" / "train.py").write_text(COUNTING)
    (tmp_path / "train_tiny.yml").write_text(OPTIONS)
    return tmp_path / "farm"


def until(condition, seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def state_of(folder: Path, name: str) -> str:
    return next(job["state"] for job in json.loads((folder / "queue.json").read_text()) if job["name"] == name)


def log(folder: Path, name: str) -> str:
    file = folder / f"{name}.log"
    return file.read_text() if file.exists() else ""


def test_trainings_run_one_after_the_other_and_a_failed_one_stops_nobody(folder):
    options = str(folder.parent / "train_tiny.yml")
    for name, settings in (("first", []), ("broken", ["--set", "fail=yes"]), ("last", [])):
        farm(folder, "add", options, "--name", name, *settings)
    farm(folder, "start", "--nice", "1")
    until(lambda: "not running" in farm(folder, "show"))
    assert [state_of(folder, name) for name in ("first", "broken", "last")] == ["done", "failed", "done"]
    shown = farm(folder, "show").splitlines()
    assert "iter" not in shown[1]
    assert "20/20  eta" in shown[1]
    assert "AssertionError" in log(folder, "broken")
    farm(folder, "remove", "broken")
    assert "broken" not in farm(folder, "show")


def test_a_stopped_one_goes_on_where_it_was(folder):
    farm(folder, "add", str(folder.parent / "train_tiny.yml"), "--set", "wait=yes")
    farm(folder, "add", str(folder.parent / "train_tiny.yml"), "--name", "next")
    farm(folder, "start", "--nice", "1")
    assert "is running already" in farm(folder, "start", code=1)
    until(lambda: "iter 10/20" in log(folder, "tiny"))
    assert "stop the farm first" in farm(folder, "remove", "tiny", code=1)
    farm(folder, "stop")
    assert [state_of(folder, name) for name in ("tiny", "next")] == ["waiting", "waiting"]
    assert "not running" in farm(folder, "show")
    assert "10/20" in farm(folder, "show")
    farm(folder, "start", "--nice", "1")
    until(lambda: state_of(folder, "next") == "done")
    lines = log(folder, "tiny").splitlines()
    assert [line.split()[1] for line in lines] == [f"{number}/20" for number in range(1, 21)]


def test_one_whose_worker_was_killed_waits_again(folder):
    farm(folder, "add", str(folder.parent / "train_tiny.yml"))
    with_dead_worker = json.loads((folder / "queue.json").read_text())
    with_dead_worker[0]["state"] = "running"
    (folder / "queue.json").write_text(json.dumps(with_dead_worker))
    assert "waiting" in farm(folder, "show")
    farm(folder, "start", "--nice", "1")
    until(lambda: state_of(folder, "tiny") == "done")


def test_mistakes(folder):
    assert "no option file" in farm(folder, "add", "missing.yml", code=1)
    options = str(folder.parent / "train_tiny.yml")
    farm(folder, "add", options)
    assert "is in the queue already" in farm(folder, "add", options, code=1)
    assert "no 'other' in the queue: tiny" in farm(folder, "remove", "other", code=1)
    assert "not running" in farm(folder, "stop", code=1)


@pytest.mark.slow
def test_a_real_training_ends_as_one_that_ran_through(folder):
    for number in range(2):
        pixels = np.random.default_rng(number).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        write_image(folder / "gt" / f"{number}.png", pixels)
    options = str(folder.parent / "train_tiny.yml")
    farm(folder, "add", options, script=SCRIPT)
    farm(folder, "start", "--nice", "0", script=SCRIPT)
    until(lambda: "iter 20/400" in log(folder, "tiny"))
    farm(folder, "stop", script=SCRIPT)
    assert state_of(folder, "tiny") == "waiting"
    farm(folder, "add", options, "--name", "whole", "--set", "logger.print_freq=100", script=SCRIPT)
    farm(folder, "start", "--nice", "0", script=SCRIPT)
    until(lambda: state_of(folder, "whole") == "done")
    assert "saved" in log(folder, "tiny").partition("iter 400/400")[0]
    files = [folder / "experiments" / name / "models" / "net_g_latest.pth" for name in ("tiny", "whole")]
    resumed, whole = (torch.load(file, weights_only=True)["params_ema"] for file in files)
    assert resumed.keys() == whole.keys()
    assert all(torch.equal(resumed[key], whole[key]) for key in whole)
