"""Trainings from option files in this process, and whether what they left is bit for bit the same."""

from __future__ import annotations

import numpy as np
import torch
import yaml

from restore.assembly.trainings import train
from restore.images import write_image
from restore.options import load


def run(option_file, *overrides, auto_resume=False):
    options = load(option_file, list(overrides), is_train=True)
    options._auto_resume = auto_resume
    return train(options)


def same(one, other):
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def resumed_bit_by_bit(option_file, root, last, *overrides):
    """Whether a run that goes on from the state before its last one ends with the same networks and state.

    Args:
        option_file: of a run that saves at iteration `last`, its end, and at least once before.
        root: folder of the run.
        last: its last iteration.
        overrides: of options.
    """
    assert run(option_file, *overrides) == 0
    files = [root / "training_states" / f"{last}.state", *sorted((root / "models").glob(f"net_*_{last}.pth"))]
    whole = [torch.load(path, weights_only=True) for path in files]
    for path in (*files, *(root / "models").glob("net_*_latest.pth")):
        path.unlink()
    assert run(option_file, *overrides, auto_resume=True) == 0
    return all(same(one, torch.load(path, weights_only=True)) for one, path in zip(whole, files, strict=True))


def judge_option_file(folder, network, train, *, total_iter=4, **dataset):
    """The option file of a tiny training of a judge, `folder/tiny.yml`, two photographs beside it.

    Args:
        folder: of the file, the photographs and the run.
        network: `network_g`.
        train: what is added to `train`: its loss, and another optimizer than Adam.
        total_iter: iterations.
        dataset: what is added to the dataset.
    """
    for seed in range(2):
        pixels = np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        write_image(folder / "photos" / f"{seed}.png", pixels.repeat(2, 0).repeat(2, 1))
    of_train = {
        "name": "ladder",
        "type": "SyntheticQualityDataset",
        "dataroot_gt": str(folder / "photos"),
        "kinds": ["noise"],
        "num_levels": 2,
        "crop_px": 24,
        "batch_size_per_gpu": 4,
        "num_worker_per_gpu": 0,
    }
    options = {
        "name": "tiny",
        "model_type": "QualityModel",
        "num_gpu": 0,
        "manual_seed": 0,
        "datasets": {"train": of_train | dataset},
        "network_g": network,
        "path": {"experiments_root": str(folder / "experiments")},
        "train": {"total_iter": total_iter, "optim_g": {"type": "Adam", "lr": 1e-3}} | train,
        "logger": {"save_checkpoint_freq": 2, "print_freq": 2},
    }
    path = folder / "tiny.yml"
    path.write_text(yaml.safe_dump(options))
    return path


UNET = "{type: UNetRestorer, encoder: {type: conv_pyramid, widths: [4, 8]}, width: 4, max_width: 8, depth: 1}"
FROM_CLEAN_IMAGES = (  # what makes the tiny training of a restorer one that learns from images alone
    "scale=1",
    "datasets.val=~",
    "val=~",
    "logger.save_best=~",
    "datasets.train.gt_size=8",
    "datasets.train.type=GaussianNoiseDataset",
    "datasets.train.sigma_type=constant",
    "datasets.train.sigma_range=0",
    "datasets.train.dataroot_lq=~",
    f"network_g={UNET}",
    "train.pixel_opt=~",
)
