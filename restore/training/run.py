"""`train(options)`: builds everything that an option file names, and runs it."""

from __future__ import annotations

import logging
import random
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from restore.data.loading import DeviceLoader, training_loader
from restore.data.sampling import PatchStage, StreamSampler
from restore.errors import CheckpointError
from restore.registry import DATASETS, METRICS, NETWORKS, OBJECTIVES, SCHEDULERS
from restore.training.checkpoints import CheckpointFolder, load_file
from restore.training.ema import Ema
from restore.training.optimizers import build_optimizer
from restore.training.progress import Bar, Report, Scalars
from restore.training.randomness import seed_generators
from restore.training.saving import Saver, network_files, resume
from restore.training.schedules import RateControl
from restore.training.trainer import Plan, Trainer
from restore.training.validation import Validation

if TYPE_CHECKING:
    from restore.options import Options

__all__ = ["train"]

log = logging.getLogger(__name__)


def train(options: Options, *, auto_resume: bool = False) -> int:
    """Train as `options` say; returns the exit code: 0 done, 130 interrupted and saved.

    Args:
        options: the resolved option file.
        auto_resume: go on from the newest state of this run, if there is one.
    """
    root = Path(options.path.experiments_root or "experiments").expanduser() / options.name
    folder = CheckpointFolder(root, keep=options.logger.keep_checkpoints)
    state = _state_to_resume(options, folder, auto_resume)
    if state is None:
        _archive(root)
    _log_to_file(root, options.name)
    ours = (state or {}).get("restore", {})
    chosen = random.randint(1, 10000) if options.manual_seed is None else options.manual_seed
    seed = ours.get("seed", chosen)
    seed_generators(seed)

    device = _device(options)
    dataset = _dataset(options, "train")
    sampler = StreamSampler(
        len(dataset),
        [PatchStage(options.datasets["train"].batch_size_per_gpu)],
        total_iter=int(options.train.total_iter),
        seed=seed,
        accumulate=options.train.accumulate or 1,
    )
    trainer = _trainer(options, folder, sampler, device)
    if state is not None:
        resume(trainer, folder, state)
        sampler.start_at(trainer.iteration, ours.get("position"))
        log.info("resumed at iteration %s", f"{trainer.iteration:,}")
    log.info("%s images, seed %d, %s", f"{len(dataset):,}", seed, device)
    trainer.fit(DeviceLoader(_loader(options, dataset, sampler, device), device))
    return 130 if trainer.interrupted else 0


def _trainer(options: Options, folder: CheckpointFolder, sampler: StreamSampler, device: torch.device) -> Trainer:
    train = options.train
    network = NETWORKS.build(options.network_g, path="network_g").to(device)
    _load_pretrained(network, options)
    objective = OBJECTIVES.get(options.model_type, "model_type")({"g": network}, pixel_opt=train.pixel_opt).to(device)
    optimizer = build_optimizer(train.optim_g, network)
    schedule = SCHEDULERS.build(train.scheduler or {"type": "Constant"}, path="train.scheduler")
    ema = Ema(network, train.ema_decay, warmup=bool(train.ema_warmup)) if train.ema_decay else None
    plan = Plan(
        total_iter=int(train.total_iter),
        accumulate=sampler.accumulate,
        clip_norm=train.clip_norm,
        precision=_precision(options),
    )
    sinks = _sinks(options)
    bar = Bar(plan.total_iter) if Bar.wanted() else None
    report = Report(int(options.logger.print_freq), [*sinks, *([bar.show] if bar else [])])
    saver = Saver(folder, int(options.logger.save_checkpoint_freq), sampler)
    callbacks = [report, *_validations(options, folder, sinks), saver, *([bar] if bar else [])]
    rates = {"g": RateControl(optimizer, schedule, int(train.warmup_iter or -1))}
    return Trainer(objective, {"g": optimizer}, rates, plan, ema=ema, callbacks=callbacks)


def _validations(options: Options, folder: CheckpointFolder, sinks: list[Scalars]) -> list[Validation]:
    phases = [phase for phase in options.datasets if phase.partition("_")[0] == "val"]
    if not phases or not options.val:
        return []
    blocks = options.val.metrics or {}
    metrics = {name: METRICS.bind(block, path=f"val.metrics.{name}") for name, block in blocks.items()}
    return [
        Validation(
            {options.datasets[phase].name: _dataset(options, phase) for phase in phases},
            metrics,
            int(options.val.val_freq),
            lower_is_better=[name for name, block in blocks.items() if block.get("better") == "lower"],
            on_best=lambda trainer, metric: folder.save_models(f"best_{metric}", network_files(trainer)),
            sinks=sinks,
            images=folder.models.parent / "visualization" if options.val.save_img else None,
        )
    ]


def _dataset(options: Options, phase: str) -> Any:
    block = {key: value for key, value in options.datasets[phase].items() if key not in _LOADER_KEYS}
    return DATASETS.build({"scale": options.scale or 1, **block}, path=f"datasets.{phase}")


_LOADER_KEYS = {
    "batch_size_per_gpu", "num_worker_per_gpu", "dataset_enlarge_ratio", "prefetch_mode", "num_prefetch_queue",
    "pin_memory", "persistent_workers", "use_shuffle", "io_backend", "phase",
}  # fmt: skip


def _loader(options: Options, dataset: Any, sampler: StreamSampler, device: torch.device) -> Any:
    workers = int(options.datasets["train"].num_worker_per_gpu or 0)
    return training_loader(dataset, sampler, num_workers=workers, pin_memory=device.type == "cuda")


def _load_pretrained(network: nn.Module, options: Options) -> None:
    path = options.path.pretrain_network_g
    if not path:
        return
    content = load_file(Path(path).expanduser())
    key = options.path.param_key_g or "params"
    weights = content.get(key, content.get("params", content))
    try:
        network.load_state_dict(weights, strict=options.path.strict_load_g is not False)
    except RuntimeError as error:
        raise CheckpointError(f"{path} belongs to another network. {error}") from error
    log.info("starting from %s", path)


def _state_to_resume(options: Options, folder: CheckpointFolder, auto_resume: bool) -> dict[str, Any] | None:
    found = folder.newest() if auto_resume else None
    if found is None and options.path.resume_state:
        path = Path(options.path.resume_state).expanduser()
        found = path, load_file(path)
    if found is None:
        return None
    log.info("resuming from %s", found[0])
    return found[1]


def _archive(root: Path) -> None:
    """A fresh start under a used name: the old folder is renamed, as BasicSR does, never overwritten."""
    if root.exists():
        archived = root.with_name(f"{root.name}_archived_{time.strftime('%Y%m%d_%H%M%S')}")
        root.rename(archived)
        log.warning("%s exists: moved to %s", root, archived)


def _log_to_file(root: Path, name: str) -> None:
    root.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(root / f"train_{name}_{time.strftime('%Y%m%d_%H%M%S')}.log", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s: %(message)s"))
    logging.getLogger("restore").addHandler(handler)


def _sinks(options: Options) -> list[Scalars]:
    return []


def _device(options: Options) -> torch.device:
    if options.num_gpu == 0 or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda")


def _precision(options: Options) -> str:
    return (options.runtime.precision if options.runtime else None) or "fp32"
