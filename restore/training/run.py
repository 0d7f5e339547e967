"""`train(options)`: builds everything that an option file names, and runs it."""

from __future__ import annotations

import contextlib
import functools
import inspect
import itertools
import logging
import random
import sys
import time
from collections.abc import Iterator, Mapping
from logging.handlers import MemoryHandler
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from restore.data.loading import DeviceLoader, training_loader
from restore.data.sampling import PatchStage, StreamSampler
from restore.errors import RestoreError
from restore.inference import Restorer
from restore.inference.blocks import compile_blocks, repeated_blocks
from restore.inference.precision import resolve_device, resolve_precision
from restore.metrics import traits
from restore.networks.branches import Branch, branch_weights
from restore.networks.checkpoint import load_weights, read_state_dict
from restore.registry import DATASETS, DISCRIMINATORS, METRICS, NETWORKS, OBJECTIVES, QUALITY, SCHEDULERS
from restore.training.checkpoints import CheckpointFolder
from restore.training.distribution import Processes, join_processes
from restore.training.fitting import check_fields, check_fit
from restore.training.guards import BUILDING_ADVICE, failures_explained
from restore.training.history import sinks as open_sinks
from restore.training.layout import lay_out
from restore.training.objectives import Objective
from restore.training.objectives.multitask import validated_task
from restore.training.optimizers import build_optimizer
from restore.training.patches import Patches
from restore.training.plot import plot_history
from restore.training.progress import Bar, Report, Scalars
from restore.training.quality_validation import QualityValidation
from restore.training.randomness import seed_generators
from restore.training.resuming import resume, state_to_resume
from restore.training.saving import Saver, network_files
from restore.training.schedules import RateControl
from restore.training.trainer import Plan, Trainer
from restore.training.validation import Validation, check_samples

if TYPE_CHECKING:
    from restore.options import Options

__all__ = ["train"]

log = logging.getLogger(__name__)


def train(options: Options, frozen: Mapping[str, nn.Module] | None = None) -> int:
    """Train as `options` say; returns the exit code: 0 done, 130 interrupted and saved.

    Args:
        options: the option file.
        frozen: the networks that its objective names as teachers (see `Objective.teachers`), by their name.

    Raises:
        RestoreError: something in the options, the data or the checkpoints does not fit, or the run cannot go on.
    """
    processes = join_processes(options.launcher, backend=options.dist_params.backend, port=options.dist_params.port)
    try:
        with _log_of_run(processes) as run_log:
            code = _train(options, frozen or {}, processes, run_log)
        processes.wait_for_all()
        return code
    finally:
        processes.leave()


def _train(options: Options, frozen: Mapping[str, nn.Module], processes: Processes, run_log: MemoryHandler) -> int:
    folder = CheckpointFolder(options.paths.experiments_root, keep=options.logger.keep_checkpoints)
    saved = state_to_resume(options, folder, processes)
    ours = saved[1].get("restore", {}) if saved else {}
    drawn = random.randint(1, 10000) if options.manual_seed is None else options.manual_seed
    seed = ours.get("seed", processes.first(drawn))

    device = _device(options, processes)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = options.train.tf32
    seed_generators(seed)  # the same weights everywhere
    with failures_explained(BUILDING_ADVICE):
        networks = _networks(options, device)
    seed_generators(seed + processes.rank)  # other dropout everywhere
    dataset = _dataset(options, "train", networks["g"])
    validated = _validation_sets(options, networks["g"])
    check_fit(options, dataset, networks["g"])
    sampler = _sampler(options, dataset, seed, processes)
    objective = _objective(options).from_options(networks, options, frozen).to(device)
    check_fields(options, objective, dataset)
    resumed_at = saved[1]["iter"] if saved else None
    trainer = _trainer(options, objective, validated, folder, sampler, processes, resumed_at)
    if saved:
        resume(trainer, saved, ignored=options.path.ignore_resume_networks)
        sampler.start_at(trainer.iteration, ours.get("position"))
        _say_what_is_left(options, trainer, seed)
    if processes.is_main:  # nothing was found wrong
        _open_folder(options, run_log, fresh=saved is None)
    log.info("%s training images, seed %d, %s", f"{len(dataset):,}", seed, device)
    trainer.fit(_batches(options, dataset, sampler, device))
    if processes.is_main:
        log.info("curves: %s", plot_history(options.paths.experiments_root))
    return 130 if trainer.interrupted else 0


def _say_what_is_left(options: Options, trainer: Trainer, seed: int) -> None:
    if options.manual_seed not in (None, seed):
        log.warning("manual_seed: the run goes on with the seed of the checkpoint, %d", seed)
    if trainer.iteration >= options.train.total_iter:
        done, total = f"{trainer.iteration:,}", f"{options.train.total_iter:,}"
        log.warning("the checkpoint is of iteration %s and train.total_iter is %s: nothing is left to do", done, total)


def _device(options: Options, processes: Processes) -> torch.device:
    """This process's device."""
    if isinstance(options.num_gpu, int) and options.num_gpu > 1 and processes.world_size == 1:
        log.warning(
            "num_gpu is %d, but this is one process and uses one device. For all of them: "
            "torchrun --nproc_per_node %d restore/train.py -opt FILE",
            options.num_gpu,
            options.num_gpu,
        )
    return processes.device(resolve_device("cpu" if options.num_gpu == 0 else options.runtime.device))


def _networks(options: Options, device: torch.device) -> dict[str, nn.Module]:
    networks = {}
    learning = QUALITY if _objective(options).judges else NETWORKS
    for key, block in options.networks.items():
        network = (DISCRIMINATORS if key == "network_d" else learning).build(block, path=key)
        path, entry, strict = options.path.pretrained(key)
        if path:
            state, task = read_state_dict(path, entry), options.path.pretrain_task_g
            if key == "network_g" and task is not None:
                state = branch_weights(state, task, source=str(path))
            skipped = load_weights(network, state, source=str(path), strict=strict)
            log.info("%s starts from %s%s", key, path, f"; skipped {', '.join(skipped)}" if skipped else "")
        networks[key.removeprefix("network_")] = network.to(device)
        lay_out(network, device, False if options.dist_params.strategy == "fsdp" else options.train.channels_last)
    return networks


def _trainer(
    options: Options,
    objective: Objective,
    validated: Mapping[str, Any],
    folder: CheckpointFolder,
    sampler: StreamSampler,
    processes: Processes,
    resumed_at: int | None,
) -> Trainer:
    """Everything that learns, and what happens between iterations; nothing is written yet."""
    train = options.train
    network = next(iter(objective.networks.values()))
    device = next(network.parameters()).device
    blocks = train.optimizers()
    if train.ema_decay:
        objective.keep_average(train.ema_decay, warmup=train.ema_warmup)
    if train.activation_checkpointing:
        checkpoint_blocks(network)
    if train.compile:
        compile_blocks(network)
    _share(options, objective, processes)
    optimizers = {
        letter: build_optimizer(
            blocks[f"optim_{letter}"], nn.ModuleList(objective.trained(letter)), f"train.optim_{letter}"
        )
        for letter in objective.networks
    }
    schedule = SCHEDULERS.build(train.scheduler or {"type": "Constant"}, path="train.scheduler")
    rates = {letter: RateControl(each, schedule, train.warmup_iter) for letter, each in optimizers.items()}
    plan = Plan(
        total_iter=train.total_iter,
        accumulate=train.accumulate,
        clip_norm=train.gradient_limit,
        dtype=resolve_precision(train.precision, device, network.spec.precisions),
    )
    sinks = open_sinks(options, resumed_at) if processes.is_main else []
    bar = Bar(plan.total_iter) if Bar.wanted() else None
    callbacks = [
        Report(options.logger.print_freq, sinks, *([bar.show] if bar else [])),
        *_validations(
            options, network if objective.average is None else objective.average.network, validated, folder, sinks
        ),
        Saver(folder, options.logger.save_checkpoint_freq, sampler, _blocks(options)),
        *([bar] if bar else []),
    ]
    return Trainer(objective, optimizers, rates, plan, processes=processes, callbacks=callbacks)


def _share(options: Options, objective: Objective, processes: Processes) -> None:
    """Let the processes train the networks together."""
    strategy = options.dist_params.strategy
    if strategy == "fsdp" and processes.world_size == 1:
        log.warning("dist_params.strategy is fsdp, but this is one process: there is nobody to share a network with.")
    unused = options.find_unused_parameters or objective.leaves_parameters_out
    objective.share(processes, strategy=strategy, find_unused_parameters=unused)


def checkpoint_blocks(network: nn.Module) -> None:
    """Compute the activations of each repeated block again in the backward pass instead of keeping them."""
    for block in repeated_blocks(network):
        block.forward = functools.partial(checkpoint, block.forward, use_reentrant=False)


def _validation_sets(options: Options, network: nn.Module) -> dict[str, Any]:
    """The datasets to validate on, by key; none if the options want no validation.

    Raises:
        DataError: a dataset cannot be read, or lacks what the metrics need.
    """
    if not options.val.val_freq:
        return {}
    keys = [dataset.key for dataset in options.phases("val")]
    sets = {key: _dataset(options, key, _seen_by(options, key, network)) for key in keys}
    if not _objective(options).judges:
        check_samples({options.datasets[key].name: each for key, each in sets.items()}, _metrics(options))
    return sets


def _validations(
    options: Options,
    network: nn.Module,
    validated: Mapping[str, Any],
    folder: CheckpointFolder,
    sinks: list[Scalars],
) -> list[Validation]:
    if not validated:
        return []
    val = options.val
    names = {key: options.datasets[key].name for key in validated}
    sets = {names[key]: each for key, each in validated.items()}
    shared = {
        "best_metric": options.logger.save_best,
        "on_best": functools.partial(_save_best, folder, _blocks(options)),
        "sinks": sinks,
    }
    if _objective(options).judges:
        return [QualityValidation(network, sets, val.val_freq, **shared)]
    runtime = {**options.runtime.arguments(), "device": next(network.parameters()).device, "compile": False}
    return [
        Validation(
            {names[key]: Restorer(_seen_by(options, key, network), **runtime) for key in validated},
            sets,
            _metrics(options),
            val.val_freq,
            lower_is_better=[name for name, block in val.metrics.items() if not _higher_is_better(block)],
            images=options.paths.visualization if val.save_img else None,
            patches=Patches(sinks, options.logger.num_patches),
            **shared,
        )
    ]


def _metrics(options: Options) -> dict[str, Any]:
    return {name: METRICS.bind(block, path=f"val.metrics.{name}") for name, block in options.val.metrics.items()}


def _seen_by(options: Options, key: str, network: nn.Module) -> nn.Module:
    """The network as a validation dataset sees it: of several tasks, the one that the dataset is for."""
    task = validated_task(network, options, key)
    return network if task is None else Branch(network, task)


def _blocks(options: Options) -> dict[str, dict[str, Any]]:
    """The option block of each network, by its letter."""
    return {key.removeprefix("network_"): block for key, block in options.networks.items()}


def _save_best(folder: CheckpointFolder, blocks: Mapping[str, Mapping[str, Any]], trainer: Trainer) -> None:
    files = network_files(trainer, blocks)
    if trainer.processes.is_main:
        folder.save_models("best", files)


def _objective(options: Options) -> type[Objective]:
    return OBJECTIVES.get(options.model_type, "model_type")


def _higher_is_better(block: Mapping[str, Any]) -> bool:
    return traits(block["type"]).higher_is_better


def _dataset(options: Options, key: str, network: nn.Module) -> Any:
    """The dataset under `key`; a network of one channel sees grey images unless the option file says otherwise."""
    dataset = options.datasets[key]
    block = dict(dataset.block)
    arguments = inspect.signature(DATASETS.get(dataset.type, f"datasets.{key}.type")).parameters
    if network.spec.in_channels == 1 and "color" in arguments:
        block.setdefault("color", "grey")
    scale = dataset.scale if dataset.task is None else network.spec.scale
    supplied = {"name": dataset.name, "scale": scale}
    supplied = {argument: value for argument, value in supplied.items() if argument in arguments}
    return DATASETS.build(block, path=f"datasets.{key}", **supplied)


def _sampler(options: Options, dataset: Any, seed: int, processes: Processes) -> StreamSampler:
    """What decides which samples of the training data every batch is made of."""
    return StreamSampler(
        len(dataset),
        _stages(options),
        total_iter=options.train.total_iter,
        seed=seed,
        accumulate=options.train.accumulate,
        rank=processes.rank,
        world_size=processes.world_size,
        groups=getattr(dataset, "groups", None),
    )


def _batches(options: Options, dataset: Any, sampler: StreamSampler, device: torch.device) -> DeviceLoader:
    """The batches of this process, on its device."""
    block = options.datasets["train"]
    loader = training_loader(
        dataset,
        sampler,
        num_workers=block.num_worker_per_gpu,
        pin_memory=device.type == "cuda",
        skip_bad_images=block.on_bad_image == "skip",
    )
    return DeviceLoader(loader, device, channels_last=bool(options.train.channels_last))


def _stages(options: Options) -> list[PatchStage]:
    dataset = options.datasets["train"]
    if dataset.gt_sizes:
        return [
            PatchStage(*stage) for stage in zip(dataset.mini_batch_sizes, dataset.gt_sizes, dataset.iters, strict=True)
        ]
    return [PatchStage(dataset.batch_size_per_gpu)]


@contextlib.contextmanager
def _log_of_run(processes: Processes) -> Iterator[MemoryHandler]:
    """Keeps what the main process says until its folder is there to write it to, errors too; the others only warn."""
    logger = logging.getLogger("restore")
    kept = MemoryHandler(capacity=10_000, flushLevel=logging.CRITICAL + 1)
    if processes.is_main:
        logger.addHandler(kept)
    else:
        logger.setLevel(logging.WARNING)
    try:
        yield kept
    except RestoreError as error:
        if kept.target is not None:
            kept.target.handle(logging.makeLogRecord({"levelname": "ERROR", "msg": str(error)}))
        raise
    finally:
        logger.removeHandler(kept)
        if kept.target is not None:
            with contextlib.suppress(OSError):  # what could not be written cannot be now
                kept.target.close()
        kept.close()


def _open_folder(options: Options, run_log: MemoryHandler, fresh: bool) -> None:
    """The run's folder with a log file and a copy of the options; at a fresh start, an older one is moved away."""
    root = options.paths.experiments_root
    now = time.strftime("%Y%m%d_%H%M%S")
    for folder in (root, options.paths.tb_logger):
        if fresh and folder.exists():
            log.warning("%s was there: moved to %s", folder, _moved_away(folder, f"archived_{now}").name)
    root.mkdir(parents=True, exist_ok=True)
    (root / f"{options.name}.yml").write_text(options.dump(), encoding="utf-8")
    file = _LogFile(root / f"train_{options.name}_{now}.log", encoding="utf-8")
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s: %(message)s"))
    run_log.setTarget(file)
    run_log.flushLevel = logging.NOTSET  # from here on at once
    run_log.flush()


class _LogFile(logging.FileHandler):
    """A log file that says once that it cannot be written, and lets the run go on."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the name is logging's
        """Called where a line could not be written: the disk is full, say."""
        if self.level < logging.CRITICAL:
            self.setLevel(logging.CRITICAL + 1)
            log.warning("the log file %s cannot be written: %s", self.baseFilename, sys.exc_info()[1])


def _moved_away(folder: Path, mark: str) -> Path:
    """Rename a folder, by a mark and if need be a number behind its name; returns its new path."""
    for number in itertools.count():
        moved = folder.with_name(f"{folder.name}_{mark}{f'_{number}' if number else ''}")
        if not moved.exists():
            return folder.rename(moved)
    raise AssertionError("counting never ends")
