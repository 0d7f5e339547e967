"""From a model and a folder of photographs to the model after further training on them, with both measured."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from restore.assembly.datasets import evaluation_sets
from restore.assembly.metrics import metrics_of
from restore.assembly.restorers import restorer_of
from restore.assembly.tasks import inputs_of
from restore.assembly.trainings import train
from restore.errors import DataError, OptionsError
from restore.evaluation import evaluate
from restore.files import atomic_write
from restore.jobs import find_images
from restore.options import load
from restore.zoo import load_network
from restore.zoo.load import network_block, weights_file

__all__ = ["FineTuning", "finetune"]

HELD_OUT = 10
"""Every so many images, one is kept for validation."""
PATCH_PX, BATCH = 48, 8
METRICS = ("psnr", "ssim")
SPEED_UP = {"cache": "packed", "num_worker_per_gpu": 0}
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FineTuning:
    """What is trained further, on what and how long.

    Attributes:
        model: a model's name or weights file.
        photos: folder of good images.
        folder: where the run's files go: option file, lists of images, `experiments` and `results`.
        task: what the network does; by default sr for one that enlarges, pairs where there are bad versions.
        bad: folder of their bad versions, named alike; by default they are made.
        iterations: how long.
        rate: learning rate at the start; it falls to zero by a cosine.
        sigma: largest level of noise, for denoise.
        quality: lowest JPEG quality, for jpeg.
    """

    model: str
    photos: Path
    folder: Path
    task: str | None = None
    bad: Path | None = None
    iterations: int = 2000
    rate: float = 1e-4
    sigma: float = 50.0
    quality: int = 10


def finetune(order: FineTuning) -> tuple[int, Mapping[str, Mapping[str, float]]]:
    """Train, and measure the model before and after on images that are held out.

    A run that was interrupted goes on when the same order is given again.

    Returns:
        The exit code of the training (0, or 130 interrupted and saved), and PSNR and SSIM of the held-out images
        `before` and `after`; empty where it was interrupted.

    Raises:
        OptionsError: the task is missing or does not fit the network, or the folder holds another fine-tuning.
        DataError: there are fewer than two images.
        RestoreError: whatever else a training refuses.
    """
    file = _prepared(order)
    options = load(file, is_train=True)
    options._auto_resume = True
    code = train(options)
    if code:
        return code, {}
    tuned = options.paths.experiments_root / "models" / "net_g_latest.pth"
    measured = {}
    for name, weights in (("before", weights_file(order.model)), ("after", tuned)):
        overrides = [f"name={options.name}_{name}", f"path.pretrain_network_g={weights}", "path.param_key_g=~"]
        tested = load(file, overrides, is_train=False)
        root = order.folder.resolve() / "results"
        results = evaluate(
            restorer_of(tested), evaluation_sets(tested), metrics_of(tested), name=tested.name, results_root=root
        )
        (found,) = results.datasets
        measured[name] = {metric: found.mean(metric) or 0.0 for metric in METRICS}
    return code, measured


def _prepared(order: FineTuning) -> Path:
    """The option file of the training, written if it is not there yet."""
    text = yaml.safe_dump(_block(order), sort_keys=False, allow_unicode=True)
    file = order.folder / "finetune.yml"
    if file.exists():
        if file.read_text(encoding="utf-8") != text:
            raise OptionsError(f"{file} is of another fine-tuning: name another folder with --output, or remove it.")
        return file
    train_names, val_names = _split([each.path for each in find_images(order.photos)], order.photos)
    for name, content in (("train.txt", train_names), ("val.txt", val_names), ("finetune.yml", [text])):
        with atomic_write(order.folder / name) as part:
            part.write("\n".join(content).encode("utf-8"))
    log.info("%d images to train on, %d held out: %s", len(train_names), len(val_names), file)
    return file


def _split(paths: Sequence[Path], root: Path) -> tuple[list[str], list[str]]:
    """Names of the images to train on and of those held out."""
    names = sorted(path.relative_to(root).as_posix() for path in paths)
    if len(names) < 2:
        raise DataError(f"'{root}' holds {len(names)} image(s): at least 2 are needed, one of them to validate on.")
    held_out = names[:: min(HELD_OUT, len(names))]
    return [name for name in names if name not in held_out], held_out


def _block(order: FineTuning) -> dict[str, Any]:
    """The option file as plain values."""
    spec = load_network(order.model).spec
    task = order.task or ("pairs" if order.bad else "sr" if spec.scale > 1 else None)
    if task is None or (task == "pairs") != bool(order.bad) or (task == "sr") != (spec.scale > 1 and not order.bad):
        about = f"'{order.model}' enlarges {spec.scale} times"
        raise OptionsError(
            f"{about}: its task is sr, or pairs with --lq."
            if spec.scale > 1
            else f"{about}: name --task denoise or jpeg, or the folder of the bad versions with --lq."
        )
    pairs = {"type": "PairedImageDataset"}
    of_train, of_val = inputs_of(task, sigma=order.sigma, quality=order.quality) or (pairs, pairs)
    folder, photos = order.folder.resolve(), order.photos.resolve()
    common = {"dataroot_gt": str(photos)} | ({"dataroot_lq": str(order.bad.resolve())} if order.bad else {})
    return {
        "name": "finetune",
        "model_type": "SRModel",
        "scale": spec.scale,
        "manual_seed": 0,
        "datasets": {
            "train": {
                "name": "photos",
                **common,
                **of_train,
                "meta_info_file": str(folder / "train.txt"),
                "gt_size": PATCH_PX * spec.scale,
                "use_hflip": True,
                "use_rot": True,
                "batch_size_per_gpu": BATCH,
                **SPEED_UP,
            },
            "val": {"name": "held_out", **common, **of_val, "meta_info_file": str(folder / "val.txt")},
        },
        "network_g": network_block(order.model),
        "path": {"pretrain_network_g": str(weights_file(order.model)), "experiments_root": str(folder / "experiments")},
        "train": {
            "ema_decay": 0.99,
            "optim_g": {"type": "AdamW", "lr": order.rate, "weight_decay": 0.0},
            "scheduler": {"type": "CosineAnnealingRestartLR", "periods": [order.iterations], "eta_min": 0.0},
            "total_iter": order.iterations,
            "pixel_opt": {"type": "L1Loss"},
        },
        "val": {"val_freq": max(1, order.iterations // 4), "metrics": {name: {"type": name} for name in METRICS}},
        "logger": {
            "print_freq": max(1, order.iterations // 100),
            "save_checkpoint_freq": max(1, order.iterations // 10),
            "keep_checkpoints": 2,
        },
    }
