"""Option files from snippets, and registries with a few small components in place of the real ones."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from restore.options import components
from restore.registry import Registry

TRAINING = """
    name: small
    model_type: SRModel
    scale: 4
    num_gpu: 0
    manual_seed: 0
    datasets:
      train:
        name: DIV2K
        type: PairedImageDataset
        dataroot_gt: data/gt
        dataroot_lq: data/lq
        filename_tmpl: '{}x4'
        io_backend:
          type: disk
        gt_size: 64
        use_hflip: true
        use_rot: true
        num_worker_per_gpu: 2
        batch_size_per_gpu: 8
        dataset_enlarge_ratio: 10
        prefetch_mode: ~
      val:
        name: Set5
        type: PairedImageDataset
        dataroot_gt: set5/gt
        dataroot_lq: set5/lq
        io_backend:
          type: disk
    network_g:
      type: Net
      width: 32
      depths: [2, 2]
    path:
      pretrain_network_g: ~
      strict_load_g: true
      resume_state: ~
    train:
      ema_decay: 0.999
      optim_g:
        type: Adam
        lr: !!float 2e-4
        weight_decay: 0
        betas: [0.9, 0.99]
      scheduler:
        type: MultiStepLR
        milestones: [2000, 4000]
        gamma: 0.5
      total_iter: 5000
      warmup_iter: -1
      pixel_opt:
        type: L1Loss
        loss_weight: 1.0
        reduction: mean
    val:
      val_freq: !!float 5e3
      save_img: false
      metrics:
        psnr:
          type: calculate_psnr
          crop_border: 4
          test_y_channel: false
    logger:
      print_freq: 100
      save_checkpoint_freq: !!float 5e3
      use_tb_logger: true
      wandb:
        project: ~
        resume_id: ~
    dist_params:
      backend: nccl
      port: 29500
"""


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes a snippet to a file and returns its path."""

    def writer(text: str, name: str = "options.yml") -> Path:
        path = tmp_path / name
        path.write_text(textwrap.dedent(text).lstrip("\n"))
        return path

    return writer


@pytest.fixture
def training(write) -> Path:
    """A complete training file in BasicSR's style."""
    return write(TRAINING, "training.yml")


class Net:
    def __init__(self, width: int = 16, depths: Sequence[int] = (1, 1), kind: str = "plain"):
        self.width, self.depths, self.kind = width, depths, kind


class Wide:
    def __init__(self, channels: int = 64):
        self.channels = channels


class Judge:
    def __init__(self, width: int = 8):
        self.width = width


class PairedImageDataset:
    def __init__(
        self,
        dataroot_gt: str,
        dataroot_lq: str,
        *,
        name: str = "",
        scale: int = 1,
        gt_size: int | None = None,
        use_hflip: bool = False,
        use_rot: bool = False,
        filename_tmpl: str = "{}",
    ):
        self.roots = dataroot_gt, dataroot_lq


class Adam:
    def __init__(
        self, params: list, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), weight_decay: float = 0
    ):
        self.lr = lr


class MultiStepLR:
    def __init__(self, milestones: Sequence[int], gamma: float = 0.1):
        self.milestones, self.gamma = milestones, gamma


class L1Loss:
    def __init__(self, loss_weight: float = 1.0, reduction: str = "mean"):
        self.loss_weight, self.reduction = loss_weight, reduction


class Learning:
    @classmethod
    def problems(cls, options) -> list:
        return []


def calculate_psnr(restored, reference, *, crop_border: int, test_y_channel: bool = False) -> float:
    return 0.0


@pytest.fixture
def fakes(monkeypatch) -> dict[str, Registry]:
    """Small registries in the place of the real ones, by the kind of their components."""
    contents = {
        "network": [Net, Wide],
        "discriminator": [Judge],
        "dataset": [PairedImageDataset],
        "metric": [calculate_psnr],
        "optimizer": [Adam],
        "scheduler": [MultiStepLR],
        "loss": [L1Loss],
        "model_type": [],
    }
    registries = {kind: Registry(kind) for kind in contents}
    for kind, members in contents.items():
        for member in members:
            registries[kind].add()(member)
    registries["model_type"].add("SRModel", "SwinIRModel")(Learning)
    slots = [
        components.Slot(old.pattern, registries[old.registry.kind], old.supplied, old.keyword_only)
        for old in components.SLOTS
    ]
    monkeypatch.setattr(components, "SLOTS", tuple(slots))
    monkeypatch.setattr(components, "_DATASET", slots[0])
    monkeypatch.setattr(components, "DATASETS", registries["dataset"])
    monkeypatch.setattr(components, "OBJECTIVES", registries["model_type"])
    return registries
