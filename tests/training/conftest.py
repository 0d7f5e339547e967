"""A tiny network, tiny data and an option file: a whole training in a second."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from restore.images import write_image
from restore.networks import ImageSpec, Network
from restore.registry import OPTIMIZERS, SCHEDULERS
from restore.training.objectives import Restoration
from restore.training.schedules import RateControl
from restore.training.trainer import Plan, Trainer


class TinyNetwork(Network):
    """Twice as large, by two convolutions, with batch statistics and dropout."""

    def __init__(self, in_chans=3, width=6):
        super().__init__()
        self.white = 1.0
        self.first = nn.Conv2d(in_chans, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)
        self.drop = nn.Dropout(0.2)
        self.last = nn.Conv2d(width, 4 * in_chans, 3, padding=1)

    @property
    def spec(self):
        channels = self.first.in_channels
        return ImageSpec(scale=2, in_channels=channels, out_channels=channels, value_range=self.white)

    def forward(self, x_BCHW):
        return nn.functional.pixel_shuffle(self.last(self.drop(self.norm(self.first(x_BCHW)).relu())), 2)


@pytest.fixture(autouse=True)
def _one_thread(one_thread):
    """In all tests of this folder."""


@pytest.fixture
def network():
    torch.manual_seed(0)
    return TinyNetwork()


@pytest.fixture
def batches():
    """A function: the first so many of an endless row of batches."""

    def make(count, size=4):
        draw = torch.Generator().manual_seed(1)
        for number in range(count):
            gt = torch.rand(size, 3, 12, 12, generator=draw)
            yield {
                "lq": nn.functional.avg_pool2d(gt, 2),
                "gt": gt,
                "gt_path": [f"{number}_{i}.png" for i in range(size)],
            }

    return make


@pytest.fixture
def make_trainer():
    """A function: a trainer of a network by L1 and Adam."""

    def make(network, *, total_iter=5, optimizer=None, ema_decay=0.9, callbacks=(), objective=None, **plan):
        chosen = OPTIMIZERS.build(optimizer or {"type": "Adam", "lr": 1e-2}, list(network.parameters()))
        objective = objective or Restoration({"g": network}, {"pixel_opt": {"type": "L1Loss"}})
        if ema_decay:
            objective.keep_average(ema_decay)
        return Trainer(
            objective,
            {"g": chosen},
            {"g": RateControl(chosen, SCHEDULERS.build({"type": "MultiStepLR", "milestones": [3]}))},
            Plan(total_iter, **plan),
            callbacks=callbacks,
        )

    return make


OPTIONS = """
name: tiny
model_type: SRModel
scale: 2
num_gpu: 0
manual_seed: 3
datasets:
  train:
    name: noise
    type: PairedImageDataset
    dataroot_gt: {root}/gt
    dataroot_lq: {root}/lq
    gt_size: 16
    use_hflip: true
    use_rot: true
    batch_size_per_gpu: 2
    num_worker_per_gpu: 0
  val: {{name: noise, type: PairedImageDataset, dataroot_gt: {root}/gt, dataroot_lq: {root}/lq}}
network_g: {{type: SwinIR, upscale: 2, img_size: 8, window_size: 4, embed_dim: 8, depths: [1], num_heads: [2],
             mlp_ratio: 1, upsampler: pixelshuffledirect}}
path: {{experiments_root: {root}/experiments}}
train:
  total_iter: 6
  ema_decay: 0.9
  optim_g: {{type: Adam, lr: 2e-3, betas: [0.9, 0.99]}}
  scheduler: {{type: MultiStepLR, milestones: [4], gamma: 0.5}}
  pixel_opt: {{type: CharbonnierLoss}}
val:
  val_freq: 3
  metrics:
    psnr: {{type: calculate_psnr, crop_border: 2}}
logger: {{print_freq: 2, save_checkpoint_freq: 3, save_best: psnr}}
"""


@pytest.fixture(scope="session")
def write_options():
    """A function: writes the option file of a tiny training into a folder, its images beside it."""

    def write(folder):
        noise = np.random.default_rng(0)
        for number in range(5):
            small = noise.integers(0, 256, (12, 10, 3), dtype=np.uint8)
            write_image(folder / "lq" / f"{number}.png", small)
            write_image(folder / "gt" / f"{number}.png", small.repeat(2, 0).repeat(2, 1))
        path = folder / "train.yml"
        path.write_text(OPTIONS.format(root=folder))
        return path

    return write


@pytest.fixture
def option_file(tmp_path, write_options):
    """An option file of a tiny training, its images beside it."""
    return write_options(tmp_path)


@pytest.fixture(autouse=True)
def _quiet_log_files():
    """Close the log files that trainings of a test opened."""
    import logging

    logger = logging.getLogger("restore")
    before = list(logger.handlers)
    yield
    for handler in [handler for handler in logger.handlers if handler not in before]:
        logger.removeHandler(handler)
        handler.close()
