"""`restore test -opt FILE`: evaluate a model over datasets, or restore images of one's own with `--input`.

Restored images, figures and a page to look at go to `results/NAME/`; see `restore.evaluation`.
"""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from restore.commands.arguments import add_json, add_threads, use_threads
from restore.errors import OptionsError
from restore.terminal import tell_json

if TYPE_CHECKING:
    from restore.options import Options

__all__ = ["add_arguments", "run"]

logger = logging.getLogger(__name__)
_RANKS = {"pytorch": "RANK", "slurm": "SLURM_PROCID"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """BasicSR's arguments, `--set`, and a folder of the user's own."""
    from restore.options import add_option_arguments

    add_option_arguments(parser)
    add_threads(parser)
    add_json(parser, "the figures as a table")
    parser.add_argument("-i", "--input", metavar="PATH", help="restore this image or folder instead of the datasets")
    parser.add_argument("-o", "--output", metavar="DIR", help="where the images restored from --input go")


def run(arguments: argparse.Namespace) -> int:
    """Do what the option file asks for; returns the exit code."""
    from restore.assembly.networks import given_by
    from restore.options import load_from_arguments

    use_threads(arguments)
    if (arguments.input is None) != (arguments.output is None):
        raise OptionsError("--input and --output belong together: give both, or none of them to test on the datasets.")
    options = load_from_arguments(arguments, is_train=False)
    if int(os.environ.get(_RANKS.get(options.launcher, ""), "0")):
        logger.info("testing runs in the first process alone; this one has nothing to do.")
        return 0
    gives = given_by(options)
    if gives != "images" and arguments.input:
        raise OptionsError(f"--input restores images, and {options.model_type} gives {gives}: leave it out.")
    if gives == "opinions":
        return _judge(options, as_json=arguments.json)
    if gives == "boxes":
        return _detect(options, as_json=arguments.json)
    return _restore_files(options, arguments) if arguments.input else _evaluate(options, as_json=arguments.json)


def _restore_files(options: Options, arguments: argparse.Namespace) -> int:
    from restore.assembly.restorers import restorer_of
    from restore.commands.restoring import run_jobs
    from restore.inference.folder import restore_files
    from restore.jobs import plan_jobs

    jobs = plan_jobs(arguments.input, arguments.output)
    return run_jobs(jobs, partial(restore_files, restorer=restorer_of(options)), as_json=arguments.json)


def _judge(options: Options, *, as_json: bool) -> int:
    """How well a quality model agrees with opinions."""
    from restore.assembly.restorers import quality_model_of
    from restore.evaluation.opinions.run import evaluate_quality

    _measure(evaluate_quality, quality_model_of, _agreement, options, as_json=as_json)
    logger.info("look at %s", options.paths.results_root / "report.html")
    return 0


def _agreement(found: dict[str, Any]) -> str:
    return "  ".join(f"{key.upper()} {value:.4f}" for key, value in found["none"].items())


def _detect(options: Options, *, as_json: bool) -> int:
    """How many of the boxes of its datasets a detector finds."""
    from restore.assembly.restorers import detector_of
    from restore.evaluation.detections import evaluate_detector

    _measure(evaluate_detector, detector_of, _precision, options, as_json=as_json)
    return 0


def _precision(found: dict[str, Any]) -> str:
    of_kinds = {"AP50": found["ap50"], **found["ap50_of_kinds"]}
    return "  ".join(f"{key} {'-' if value is None else f'{value:.3f}'}" for key, value in of_kinds.items())


def _measure(
    evaluate: Callable[..., dict[str, Any]],
    model_of: Callable[[Options], Any],
    figures: Callable[[dict[str, Any]], str],
    options: Options,
    *,
    as_json: bool,
) -> None:
    """Evaluate over the datasets of the options, which are looked for first, and say the figures of each."""
    from restore.assembly.datasets import evaluation_sets
    from restore.reports.format import counted_images

    datasets = {dataset.name: dataset for dataset in evaluation_sets(options)}
    root = options.paths.results_root
    results = evaluate(model_of(options), datasets, name=root.name, results_root=root.parent, options=options.dump())
    if as_json:
        tell_json(results)
    for name, found in results["datasets"].items():
        logger.info("%s: %s  %s", name, counted_images(found["num_images"]), figures(found))


def _evaluate(options: Options, *, as_json: bool) -> int:
    from restore.assembly.datasets import evaluation_sets
    from restore.assembly.metrics import metrics_of
    from restore.assembly.restorers import restorer_of
    from restore.evaluation import evaluate
    from restore.evaluation.models.terminal import show

    datasets = evaluation_sets(options)
    results = evaluate(
        restorer_of(options),
        datasets,
        metrics_of(options),
        name=options.name,
        results_root=options.paths.results_root.parent,
        save_images=options.val.save_img,
        suffix=options.val.suffix,
        options=options.dump(),
        progress=options.val.pbar,
    )
    tell_json(results.as_dict()) if as_json else show(results)
    logger.info("look at %s", options.paths.results_root / "report.html")
    return 0
