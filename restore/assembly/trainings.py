"""From an option file to a training, and its run.

    train(load("options/train_swinir_light_x2.yml"))

The order in which parts are built is part of a run's random numbers: teachers come before the seed is set, then
networks, datasets, and what learns.
"""

from __future__ import annotations

import contextlib
import json
import logging
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from restore.assembly.datasets import build_dataset
from restore.assembly.fitting import check_fields, check_fit
from restore.assembly.networks import as_network, blocks_by_letter, build_network, chosen_device, objective_of, teachers
from restore.assembly.validations import validation_of, validation_sets
from restore.data.loading import DeviceLoader, training_loader
from restore.data.sampling import PatchStage, StreamSampler
from restore.errors import OptionsError, Problem
from restore.inference.blocks import compile_blocks
from restore.inference.precision import resolve_precision
from restore.layers.layout import lay_out
from restore.locks import reserved
from restore.networks.foreign import ForeignNetwork
from restore.options import Options, load
from restore.registry import SCHEDULERS
from restore.training.checkpoints import CheckpointFolder
from restore.training.distribution import Processes, processes_of_run
from restore.training.folder import RunFolder, RunLog
from restore.training.guards import BUILDING_ADVICE, failures_explained
from restore.training.history import HISTORY, History, TensorBoard, WeightsAndBiases
from restore.training.optimizers import build_optimizer
from restore.training.progress import Bar, Report, Scalars
from restore.training.randomness import seed_generators
from restore.training.recomputation import checkpoint_blocks
from restore.training.resuming import resume, state_to_resume
from restore.training.run import Training
from restore.training.run import train as run_training
from restore.training.saving import Saver
from restore.training.schedules import RateControl, stretched
from restore.training.sparsity import DynamicSparsity
from restore.training.trainable import train_only
from restore.training.trainer import Callback, Plan, Trainer

if TYPE_CHECKING:
    from restore.options.schema.train import TrainOptions
    from restore.training.objectives import Objective

__all__ = ["build_training", "options_in", "train"]

log = logging.getLogger(__name__)


def train(options: Options) -> int:
    """Train as `options` say; returns the exit code: 0 done, 130 interrupted and saved.

    Raises:
        RestoreError: something in the options, the data or the checkpoints does not fit, or the run cannot go on.
    """
    found = options.dist_params
    with (
        processes_of_run(options.launcher, backend=found.backend, port=found.port) as processes,
        RunLog(processes.is_main).listening() as run_log,
        reserved(options.paths.experiments_root) if processes.is_main else contextlib.nullcontext(),
    ):
        return run_training(build_training(options, processes), run_log)


def options_in(folder: Path, file: str | Path, changes: Sequence[Any], iterations: int | None = None) -> Options:
    """The options of a training that is one of several, which goes on where it was interrupted.

    Args:
        folder: where its own folder is made.
        file: the option file.
        changes: assignments, the last of which counts.
        iterations: its length; the schedule of the learning rate is stretched with it. None for what the file says.

    Raises:
        OptionsError: mistakes in the option file or the changes.
    """
    own = [*changes, f"path.experiments_root={folder}"]
    options = load(file, own, is_train=True)
    if iterations is not None:
        train = learning(options)
        length = [f"train.total_iter={iterations}"]
        if train.scheduler is not None and train.total_iter:
            schedule = stretched(train.scheduler, iterations / train.total_iter)
            length += [f"train.scheduler.{key}={json.dumps(value)}" for key, value in schedule.items() if key != "type"]
        options = load(file, [*own, *length], is_train=True)
    options._auto_resume = True
    return options


def learning(options: Options) -> TrainOptions:
    """The section `train` of options that were read for a training.

    Raises:
        OptionsError: they were read for a test.
    """
    if options.train is None or not options.is_train:
        message = "missing: these options are for a test. A training has a dataset called train and a section train."
        raise OptionsError([Problem("train", message)])
    return options.train


def build_training(options: Options, processes: Processes) -> Training:
    """Everything that an option file names for a training, brought to where it was saved if it is to be resumed.

    Nothing is written.

    Raises:
        RestoreError: something in the options, the data or the checkpoints does not fit.
    """
    train = learning(options)
    folder = CheckpointFolder(options.paths.experiments_root, keep=options.logger.keep_checkpoints)
    saved = state_to_resume(folder, processes, newest=options.auto_resume, named=options.path.resume_state)
    ours = saved[1].get("restore", {}) if saved else {}
    drawn = random.randint(1, 10000) if options.manual_seed is None else options.manual_seed
    seed = ours.get("seed", processes.first(drawn))

    frozen = teachers(options)
    device = _device(options, processes)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = train.tf32
    seed_generators(seed)  # the same weights everywhere
    with failures_explained(BUILDING_ADVICE):
        networks = _networks(options, train, device)
    seed_generators(seed + processes.rank)  # other dropout everywhere
    network = as_network(networks["g"])
    dataset = build_dataset(options, "train", network)
    validated = validation_sets(options, network)
    check_fit(options, dataset, network)
    sampler = _sampler(options, train, dataset, seed, processes)
    objective = objective_of(options).from_options(networks, options, frozen)
    objective.meet(dataset)
    objective.to(device)
    for each in objective.frozen.values():
        lay_out(each, device, train.channels_last)
    check_fields(options, objective, dataset)
    resumed_at = saved[1]["iter"] if saved else None
    trainer = _trainer(options, train, objective, validated, folder, sampler, processes, resumed_at)
    if saved:
        resume(trainer, saved, ignored=options.path.ignore_resume_networks)
        sampler.start_at(trainer.iteration, ours.get("position"))
        _say_what_is_left(options, trainer, seed)
    return Training(
        trainer,
        _batches(options, objective.reading(dataset), sampler, device, channels_last=bool(train.channels_last)),
        RunFolder(options.paths.experiments_root, options.paths.tb_logger, options.dump()),
        resumed=saved is not None,
        about=f"{len(dataset):,} training images, seed {seed}, {device}",
    )


def _say_what_is_left(options: Options, trainer: Trainer, seed: int) -> None:
    if options.manual_seed not in (None, seed):
        log.warning("manual_seed: the run continues with the seed of the checkpoint, %d", seed)
    if trainer.last:
        done, total = f"{trainer.iteration:,}", f"{trainer.plan.total_iter:,}"
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
    return processes.device(chosen_device(options))


def _networks(options: Options, train: TrainOptions, device: torch.device) -> dict[str, nn.Module]:
    """Every network by its letter, on the device, its weights in the layout that is fast there."""
    networks = {}
    for key in options.networks:
        network = build_network(options, key)
        networks[key.removeprefix("network_")] = network.to(device)
        lay_out(network, device, False if options.dist_params.strategy == "fsdp" else train.channels_last)
    return networks


def _trainer(
    options: Options,
    train: TrainOptions,
    objective: Objective,
    validated: Mapping[str, Any],
    folder: CheckpointFolder,
    sampler: StreamSampler,
    processes: Processes,
    resumed_at: int | None,
) -> Trainer:
    """Everything that learns, and what happens between iterations."""
    network = as_network(next(iter(objective.networks.values())))
    device = next(network.parameters()).device
    if train.trainable is not None:
        learning, everything = train_only(network, train.trainable)
        log.info("%s of %s parameters learn (%.1f %%)", f"{learning:,}", f"{everything:,}", 100 * learning / everything)
    if train.ema_decay:
        objective.keep_average(train.ema_decay, warmup=train.ema_warmup, power=train.ema_power)
    if train.activation_checkpointing or (isinstance(network, ForeignNetwork) and network.use_checkpoint):
        checkpoint_blocks(network)
    if train.compile:
        compile_blocks(network)
    _share(options, objective, processes)
    blocks = train.optimizers()
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
    sinks = _sinks(options, resumed_at) if processes.is_main else []
    bar = Bar(plan.total_iter) if Bar.wanted() else None
    shipped = as_network(objective.average.network) if objective.average else network
    callbacks: list[Callback | None] = [
        _sparsity(options, train, network),
        Report(options.logger.print_freq, sinks, *([bar.show] if bar else [])),
        validation_of(options, shipped, validated, folder, sinks),
        Saver(folder, options.logger.save_checkpoint_freq, sampler, blocks_by_letter(options)),
        bar,
    ]
    wanted = [callback for callback in callbacks if callback is not None]
    return Trainer(objective, optimizers, rates, plan, processes=processes, callbacks=wanted)


def _sparsity(options: Options, train: TrainOptions, network: nn.Module) -> DynamicSparsity | None:
    """What keeps weights at zero, where it is wanted."""
    if train.sparse is None:
        return None
    if options.dist_params.strategy == "fsdp":
        message = "masks are of whole weights, and dist_params.strategy: fsdp splits them. Use ddp."
        raise OptionsError([Problem("train.sparse", message)])
    return DynamicSparsity(network, **dict(train.sparse))


def _share(options: Options, objective: Objective, processes: Processes) -> None:
    """Let the processes train the networks together."""
    strategy = options.dist_params.strategy
    if strategy == "fsdp" and processes.world_size == 1:
        log.warning("dist_params.strategy is fsdp, but there is only one process: the network is not split.")
    unused = options.find_unused_parameters or objective.leaves_parameters_out
    objective.share(processes, strategy=strategy, find_unused_parameters=unused)


def _sinks(options: Options, resumed_at: int | None) -> list[Scalars]:
    """Everything that the option file wants scalars to go to."""
    logger, paths = options.logger, options.paths
    wanted: list[Scalars] = [History(paths.experiments_root / HISTORY)]
    if logger.use_tb_logger:
        wanted.append(TensorBoard(paths.tb_logger, resumed_at))
    if logger.wandb.project:
        wanted.append(WeightsAndBiases(logger.wandb.project, options.name, logger.wandb.resume_id))
    return wanted


def _sampler(options: Options, train: TrainOptions, dataset: Any, seed: int, processes: Processes) -> StreamSampler:
    """What decides which samples of the training data every batch is made of."""
    return StreamSampler(
        len(dataset),
        _stages(options),
        total_iter=train.total_iter,
        seed=seed,
        accumulate=train.accumulate,
        rank=processes.rank,
        world_size=processes.world_size,
        groups=getattr(dataset, "groups", None),
        num_crops=train.teacher.crops if train.teacher else None,
    )


def _stages(options: Options) -> list[PatchStage]:
    dataset = options.datasets["train"]
    sizes, patches, lengths = dataset.mini_batch_sizes, dataset.gt_sizes, dataset.iters
    if sizes and patches and lengths:
        return [PatchStage(*stage) for stage in zip(sizes, patches, lengths, strict=True)]
    return [PatchStage(dataset.batch_size_per_gpu)]


def _batches(
    options: Options, dataset: Any, sampler: StreamSampler, device: torch.device, *, channels_last: bool
) -> DeviceLoader:
    """The batches of this process, on its device."""
    block = options.datasets["train"]
    loader = training_loader(
        dataset,
        sampler,
        num_workers=block.num_worker_per_gpu,
        pin_memory=device.type == "cuda",
        skip_bad_images=block.on_bad_image == "skip",
    )
    return DeviceLoader(loader, device, channels_last=channels_last)
