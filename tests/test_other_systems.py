"""Windows and macOS, simulated: what they do not have is taken away, and restoring and training still work."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from restore.images import write_image

ROOT = Path(__file__).parent.parent
BEFORE = """
import os, select, signal, sys, sysconfig
sysconfig.get_config_vars()  # those of the system that is really there
import cv2, numpy, PIL, psutil, scipy.ndimage, scipy.sparse, skimage, tifffile, timm, torch, torchvision, tensorboard
import rich.console, rich.progress, torch.utils.tensorboard, lmdb, multiprocessing.synchronize, concurrent.futures
for name in ("resource", "fcntl", "pwd", "grp", "termios", "posix"):
    sys.modules[name] = None
"""
WITHOUT = {
    "windows": """
for name in ("sigtimedwait", "sigwait", "pthread_sigmask", "SIGKILL", "SIGHUP", "SIGUSR1", "SIGALRM", "alarm"):
    if hasattr(signal, name): delattr(signal, name)
for name in ("sched_getaffinity", "register_at_fork", "fork", "sysconf", "sysconf_names", "getuid"):
    if hasattr(os, name): delattr(os, name)
del select.poll
sys.platform = "win32"
""",
    "macos": """
del sys.modules["fcntl"], sys.modules["resource"], signal.sigtimedwait, os.sched_getaffinity
sys.platform = "darwin"
""",
}
OPTIONS = """
name: small
model_type: SRModel
scale: 2
manual_seed: 0
datasets:
  train:
    name: photos
    type: DownsampledImageDataset
    dataroot_gt: photos
    gt_size: 16
    batch_size_per_gpu: 2
    num_worker_per_gpu: 0
  val:
    name: photos
    type: DownsampledImageDataset
    dataroot_gt: photos
network_g: {type: EDSR, num_feat: 4, num_block: 1, upscale: 2}
train:
  optim_g: {type: Adam, lr: 0.001}
  total_iter: 3
  pixel_opt: {type: L1Loss}
val:
  val_freq: 3
  metrics: {psnr: {type: psnr}}
logger: {print_freq: 1, save_checkpoint_freq: 2, use_tb_logger: true}
"""


@pytest.mark.parametrize("system", ["windows", pytest.param("macos", marks=pytest.mark.slow)])
def test_training_and_restoring(system, tmp_path):
    for number in range(2):
        pixels = np.random.default_rng(number).integers(0, 256, (24, 24, 3), np.uint8)
        write_image(tmp_path / f"photos/{number}.png", pixels)
    (tmp_path / "small.yml").write_text(OPTIONS)
    code = (
        BEFORE
        + WITHOUT[system]
        + """
import restore.training
from restore.cli import main
assert main(["train", "-opt", "small.yml"]) == 0
weights = "experiments/small/models/net_g_latest.pth"
assert main(["run", "-m", weights, "-i", "photos", "-o", "restored", "--device", "cpu"]) == 0
assert main(["train", "-opt", "small.yml", "--auto-resume", "--set", "train.total_iter=4"]) == 0
assert main(["doctor", "--json"]) in (0, 1)
"""
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert len(list((tmp_path / "restored").glob("*.png"))) == 2
    assert not list(tmp_path.rglob("*.lock"))
