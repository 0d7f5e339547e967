"""BasicSR's own code, from a checkout of github.com/XPixelGroup/BasicSR, as opponents for the benchmarks.

Nothing of it is part of this project. `add(folder)` makes it importable in this process; a checkout that was never
installed lacks its `version.py`, which stands in here.
"""

from __future__ import annotations

import importlib
import logging
import sys
import types
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

LIGHT = {"type": "SwinIR", "upscale": 4, "in_chans": 3, "img_size": 48, "window_size": 8, "img_range": 1.0}
LIGHT |= {"depths": [6] * 4, "embed_dim": 60, "num_heads": [6] * 4, "mlp_ratio": 2, "upsampler": "pixelshuffledirect"}


def add(folder: str | Path) -> None:
    """Make the package `basicsr` of a checkout importable."""
    root = Path(folder).expanduser().resolve()
    if not (root / "basicsr").is_dir():
        raise SystemExit(f"--basicsr: there is no folder {root / 'basicsr'}; clone github.com/XPixelGroup/BasicSR")
    sys.path.insert(0, str(root))
    if not (root / "basicsr/version.py").exists():
        version = types.ModuleType("basicsr.version")
        vars(version).update(__version__="0", __gitsha__="0")
        sys.modules["basicsr.version"] = version
    warnings.simplefilter("ignore")
    logging.getLogger("basicsr").setLevel(logging.ERROR)


def step(folder: str, batch: int) -> Callable[[], object]:
    """A training step of SwinIR-light as `basicsr/train.py` takes it: SwinIRModel, L1, Adam, average of 0.999."""
    add(folder)
    models = importlib.import_module("basicsr.models")
    options: dict[str, Any] = {
        "model_type": "SwinIRModel",
        "scale": 4,
        "num_gpu": 0,
        "dist": False,
        "is_train": True,
        "path": {},
        "network_g": dict(LIGHT),
        "train": {
            "ema_decay": 0.999,
            "optim_g": {"type": "Adam", "lr": 2e-4, "weight_decay": 0, "betas": [0.9, 0.99]},
            "scheduler": {"type": "MultiStepLR", "milestones": [250000], "gamma": 0.5},
            "total_iter": 500000,
            "pixel_opt": {"type": "L1Loss", "loss_weight": 1.0, "reduction": "mean"},
        },
    }
    torch.manual_seed(0)
    model = models.build_model(options)
    gt_BCHW = torch.rand(batch, 3, 192, 192)
    data = {"lq": torch.nn.functional.avg_pool2d(gt_BCHW, 4), "gt": gt_BCHW}
    iteration = 0

    def work() -> None:
        nonlocal iteration
        iteration += 1
        model.update_learning_rate(iteration, warmup_iter=-1)
        model.feed_data(data)
        model.optimize_parameters(iteration)

    return work


def loader(folder: str, block: dict[str, Any], batches: int) -> Callable[[], object]:
    """`batches` batches of its PairedImageDataset, as its train.py takes them: by the sampler and the prefetcher."""
    add(folder)
    data = importlib.import_module("basicsr.data")
    sampler = importlib.import_module("basicsr.data.data_sampler").EnlargedSampler
    prefetcher = importlib.import_module("basicsr.data.prefetch_dataloader").CPUPrefetcher
    dataset = data.build_dataset({**block, "phase": "train", "io_backend": {"type": "disk"}})
    ratio = 10**6 // len(dataset)
    batched = data.build_dataloader(
        dataset, {**block, "phase": "train"}, num_gpu=0, sampler=sampler(dataset, 1, 0, ratio), seed=0
    )
    prefetched = prefetcher(batched)

    def work() -> None:
        for _ in range(batches):
            prefetched.next()

    return work


def scores(folder: str, pairs: list[tuple[str, str]], metrics: tuple[str, ...]) -> Callable[[], object]:
    """Its functions over pairs of files (restored, reference), read as its scripts read them."""
    import cv2

    add(folder)
    functions = [vars(importlib.import_module("basicsr.metrics"))[f"calculate_{name}"] for name in metrics]
    cv2.setNumThreads(torch.get_num_threads())

    def work() -> None:
        for paths in pairs:
            restored, reference = (cv2.imread(path, cv2.IMREAD_UNCHANGED) for path in paths)
            for name, function in zip(metrics, functions, strict=True):
                images = [restored] if name == "niqe" else [restored, reference]
                function(*images, crop_border=0)

    return work
