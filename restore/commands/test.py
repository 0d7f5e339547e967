"""`restore test -opt FILE`: evaluate a model over datasets, or restore images of one's own with `--input`.

Restored images, figures and a page to look at go to `results/NAME/`; see `restore.evaluation`.
"""

from __future__ import annotations

import argparse
import logging
import os
from functools import partial
from typing import TYPE_CHECKING

from restore.errors import OptionsError, Problem

if TYPE_CHECKING:
    from torch import nn

    from restore.evaluation import TestSet
    from restore.inference import Restorer
    from restore.options import Options
    from restore.options.schema.datasets import DatasetOptions

__all__ = ["add_arguments", "restorer_of", "run"]

logger = logging.getLogger(__name__)
_RANKS = {"pytorch": "RANK", "slurm": "SLURM_PROCID"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """BasicSR's arguments, `--set`, and a folder of the user's own."""
    from restore.options import add_option_arguments

    add_option_arguments(parser)
    parser.add_argument("-i", "--input", metavar="PATH", help="restore this image or folder instead of the datasets")
    parser.add_argument("-o", "--output", metavar="DIR", help="where the images restored from --input go")


def run(arguments: argparse.Namespace) -> int:
    """Do what the option file asks for; returns the exit code."""
    from restore.options import load_from_arguments

    if (arguments.input is None) != (arguments.output is None):
        raise OptionsError("--input and --output belong together: give both, or none of them to test on the datasets.")
    options = load_from_arguments(arguments, is_train=False)
    if int(os.environ.get(_RANKS.get(options.launcher, ""), "0")):
        logger.info("testing runs in the first process alone; this one has nothing to do.")
        return 0
    if _judges(options):
        return _judge(options)
    return _restore_files(options, arguments) if arguments.input else _evaluate(options)


def _restore_files(options: Options, arguments: argparse.Namespace) -> int:
    from restore.commands.restoring import run_jobs
    from restore.inference.folder import restore_files
    from restore.jobs import plan_jobs

    jobs = plan_jobs(arguments.input, arguments.output)
    return run_jobs(jobs, partial(restore_files, restorer=restorer_of(options)))


def _judges(options: Options) -> bool:
    """Whether the network of an option file is a quality model."""
    from restore.registry import OBJECTIVES

    return OBJECTIVES.get(options.model_type, "model_type").judges


def _judge(options: Options) -> int:
    """How well a quality model agrees with opinions."""
    from restore.evaluation.opinions.run import evaluate_quality
    from restore.inference.precision import resolve_device
    from restore.quality import build_quality
    from restore.reports.format import counted_images

    model = build_quality(options.network_g, path="network_g")
    _load_pretrained(model, options)
    datasets = {dataset.name: dataset for dataset in _datasets(options)}
    root = options.paths.results_root
    device = resolve_device("cpu" if options.num_gpu == 0 else options.runtime.device)
    results = evaluate_quality(
        model.to(device), datasets, name=root.name, results_root=root.parent, options=options.dump()
    )
    for name, found in results["datasets"].items():
        figures = "  ".join(f"{key.upper()} {value:.4f}" for key, value in found["none"].items())
        logger.info("%s: %s  %s", name, counted_images(found["num_images"]), figures)
    logger.info("look at %s", root / "report.html")
    return 0


def _evaluate(options: Options) -> int:
    from restore.evaluation import evaluate
    from restore.evaluation.models.terminal import show

    datasets = _datasets(options)
    results = evaluate(
        restorer_of(options),
        datasets,
        options.val.metrics,
        name=options.name,
        results_root=options.paths.results_root.parent,
        save_images=options.val.save_img,
        suffix=options.val.suffix,
        options=options.dump(),
        progress=options.val.pbar,
    )
    show(results)
    logger.info("look at %s", options.paths.results_root / "report.html")
    return 0


def _datasets(options: Options) -> list[TestSet]:
    chosen = sorted(options.phases("test", "val"), key=lambda dataset: dataset.key)
    if not chosen:
        raise OptionsError(
            [Problem("datasets", "there is nothing to test on: give a dataset whose key begins with test.")]
        )
    return [_dataset(dataset) for dataset in chosen]


def _dataset(dataset: DatasetOptions) -> TestSet:
    from inspect import signature

    from restore.registry import DATASETS

    path = f"datasets.{dataset.key}"
    arguments = signature(DATASETS.get(dataset.type, f"{path}.type")).parameters
    supplied = {"name": dataset.name, "scale": dataset.scale}
    return DATASETS.build(dataset.block, path=path, **{key: supplied[key] for key in supplied if key in arguments})


def restorer_of(options: Options) -> Restorer:
    """The network of an option file with its weights, run as the file says.

    Raises:
        OptionsError: the network's scale is not the file's.
        CheckpointError: the weights cannot be read or belong to another network.
    """
    from restore.inference import Restorer
    from restore.zoo import build_model, load_network

    if options.network_g is None:
        source, key, _ = options.path.pretrained()
        network = load_network(source, key=key, task=options.path.pretrain_task_g)
    else:
        network = build_model(options.network_g)
        _load_pretrained(network, options)
    runtime = options.runtime.arguments()
    if options.num_gpu == 0 and runtime["device"] == "auto":
        runtime["device"] = "cpu"
    restorer = Restorer(network.eval(), **runtime)
    if restorer.scale != options.scale:
        raise OptionsError(
            [Problem("scale", f"{options.scale} is given, but the network enlarges by {restorer.scale}.")]
        )
    return restorer


def _load_pretrained(network: nn.Module, options: Options) -> None:
    """Give the network of an option file the weights that the file names."""
    from restore.networks.branches import branch_weights
    from restore.networks.checkpoint import load_weights, read_state_dict
    from restore.zoo.load import weights_file

    source, key, strict = options.path.pretrained()
    if source is None:
        logger.warning("path.pretrain_network_g is not set: the network is tested without trained weights.")
        return
    path, task = weights_file(source), options.path.pretrain_task_g
    state = read_state_dict(path, key)
    state = state if task is None else branch_weights(state, task, source=str(path))
    skipped = load_weights(network, state, source=str(path), strict=strict)
    if skipped:
        logger.warning("%s: %d tensors do not fit and are left out: %s", path, len(skipped), ", ".join(skipped))
