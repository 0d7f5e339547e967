"""`restore submit TRACK`: from a model and a folder to a zip that the organisers accept.

    restore submit sr_x4 -m swinir_light_x4 -i DIV2K_test_LR -o submissions/mine --split test
    restore submit esr -opt options/mine.yml -o submissions/esr --reference HR --team 7 --name Mine --template esr
    restore submit perceptual_iqa -m psnr -i Dis --reference Ref -o submissions/iqa

An interrupted run goes on where it stopped when the same command is given again; a zip is made of complete runs only,
and takes its name after it was opened again and found right.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from restore.commands.arguments import given_path, tile
from restore.commands.progress import naming_progress
from restore.errors import OptionsError

if TYPE_CHECKING:
    from restore.inference import Restorer
    from restore.leaderboard.submission import Author, Submission
    from restore.leaderboard.tasks import Task
    from restore.leaderboard.template import Team
    from restore.leaderboard.tracks import Track
    from restore.leaderboard.work import WorkFolder
    from restore.metrics import BoundMetric
    from restore.options import Options

__all__ = ["add_arguments", "run"]

TRACK_NAMES = ("sr_x4", "esr", "denoise50", "perceptual_iqa", "sidd", "dnd")
RESULTS_JSON = ("esr", "denoise50")
RUNTIME = ("device", "precision", "tile", "tile_overlap", "self_ensemble")
logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("track", choices=TRACK_NAMES, help="what is submitted to")
    parser.add_argument("-m", "--model", help="a shipped model or a weights file; for perceptual_iqa a metric")
    parser.add_argument("-opt", metavar="FILE", help="option file that names the network, its weights and the inputs")
    parser.add_argument("-i", "--input", type=given_path, help="folder of the inputs; the .mat file for sidd")
    parser.add_argument("-o", "--output", type=given_path, required=True, help="folder of the submission")
    parser.add_argument("--split", help="official set that the inputs must be complete for: valid, test, ...")
    parser.add_argument(
        "-g",
        "--reference",
        type=given_path,
        help="folder of the references: the submission is scored, esr and denoise50 write results.json",
    )
    parser.add_argument("--template", choices=("esr", "sr_func", "denoise"), help="also write the team's files")
    about = parser.add_argument_group("about the entry")
    about.add_argument("--team", type=int, default=0, help="number of the team")
    about.add_argument("--name", help="name of the method; by default that of the model")
    about.add_argument("--extra-data", action="store_true", help="trained on data beyond those of the challenge")
    about.add_argument(
        "--description", default="", help="method, dependencies, links, extra data: goes into the readme"
    )
    about.add_argument("--weights-url", default="", help="where weights of more than 100 MB can be had")
    about.add_argument("--board", type=Path, help="add the scored run to this local leaderboard (.jsonl)")
    running = parser.add_argument_group(
        "running the network (an option file says this under runtime)", argument_default=argparse.SUPPRESS
    )
    running.add_argument("--device", help="auto, cpu, cuda, cuda:1 or mps")
    running.add_argument("--precision", help="auto, fp32, bf16 or fp16")
    running.add_argument("--tile", type=tile, help="largest tile side in px; none; auto: by memory")
    running.add_argument("--tile-overlap", type=int, help="overlap of tiles in px")
    running.add_argument("--self-ensemble", action="store_true", help="mean over 8 flips and rotations")


def run(arguments: argparse.Namespace) -> int:
    """Make the submission; 0 when it is ready."""
    from restore.leaderboard.tracks import find_track

    if (arguments.model is None) == (arguments.opt is None):
        raise OptionsError("give a model with -m, or an option file with -opt: one of the two.")
    track = find_track(arguments.track)
    _require_effect(arguments, track)
    options = _options(arguments.opt) if arguments.opt else None
    arguments.input = _input(arguments, options)
    if track.kind == "opinions":
        return _submit_opinions(arguments, track, options)
    return _submit_restored(arguments, track, options)


def _require_effect(arguments: argparse.Namespace, track: Track) -> None:
    """Refuse what would be ignored, or would only be found wrong when the work is done.

    Raises:
        OptionsError: naming the argument and what to do.
    """
    opinions = track.kind == "opinions"
    if arguments.template and arguments.template not in track.templates:
        fitting = f"allowed: {', '.join(track.templates)}" if track.templates else "leave --template out"
        raise OptionsError(f"{track.name} has no repository of the kind '{arguments.template}': {fitting}.")
    idle = {
        "--split": (arguments.split and not track.splits, f"no official list of the files of {track.name} is known"),
        "--weights-url": (arguments.weights_url and not arguments.template, "it belongs to --template"),
        "--board": (
            arguments.board and (opinions or not arguments.reference),
            "`restore leaderboard score` adds opinions" if opinions else "runs are scored with --reference",
        ),
        **{f"--{name.replace('_', '-')}": (opinions and name in arguments, "it is about networks") for name in RUNTIME},
    }
    for option, (is_given, reason) in idle.items():
        if is_given:
            raise OptionsError(f"{option} has no effect here: {reason}.")
    if arguments.reference and not arguments.reference.is_dir():
        raise OptionsError(f"there is no folder of references '{arguments.reference}'.")


def _submit_restored(arguments: argparse.Namespace, track: Track, options: Options | None) -> int:
    from restore.leaderboard.submission import Author, identity_of, submit
    from restore.leaderboard.template import Team, write_template
    from restore.leaderboard.work import WorkFolder
    from restore.networks.checkpoint import digest_of

    restorer = _restorer(arguments, options)
    name = arguments.name or _identifier(options.name if options else Path(arguments.model).stem)
    settings = {"runtime": restorer.describe(), "split": arguments.split}
    identity = identity_of(track, digest_of(restorer.network), settings, _inputs(arguments.input, arguments.output))
    author = Author(name, arguments.extra_data, arguments.description)
    task = _task(arguments, track, restorer, author)  # refuses wrong inputs before anything is written
    needs_team = arguments.template or (arguments.reference and track.name in RESULTS_JSON)
    team = Team(arguments.team, name, arguments.weights_url) if needs_team else None
    work = WorkFolder(arguments.output, identity)
    if arguments.template:
        block = _block(arguments, options)
        paths = write_template(arguments.template, work.path / "team", team, restorer.network, block)
        logger.info("the team's files: %s", ", ".join(str(path.relative_to(work.path)) for path in paths))
    logger.info("%s: %d to do, %s", track.title, len(task.names), restorer.describe())
    with naming_progress(len(task.names)) as on_progress:
        submission = submit(
            task,
            work,
            track,
            author,
            device=restorer.device,
            network=restorer.network,
            remarks=["Self-ensemble over 8 flips and rotations"] if restorer.self_ensemble else [],
            on_progress=on_progress,
        )
    _report(submission, track)
    if arguments.reference:
        _score(arguments, track, submission, work, name, team)
    return 0


def _submit_opinions(arguments: argparse.Namespace, track: Track, options: Options | None) -> int:
    import torch

    from restore.leaderboard.submission import Author, identity_of, submit
    from restore.leaderboard.tasks import OpinionTask
    from restore.leaderboard.work import WorkFolder

    metric, block = _metric(arguments, options)
    task = OpinionTask(metric, arguments.input, arguments.reference)
    name = arguments.name or _identifier(block["type"])
    identity = identity_of(track, json.dumps(block, sort_keys=True), {}, _inputs(arguments.input, arguments.output))
    work = WorkFolder(arguments.output, identity)
    author = Author(name, arguments.extra_data, arguments.description)
    with naming_progress(len(task.names)) as on_progress:
        submission = submit(task, work, track, author, device=torch.device("cpu"), on_progress=on_progress)
    _report(submission, track)
    return 0


def _task(arguments: argparse.Namespace, track: Track, restorer: Restorer, author: Author) -> Task:
    from restore.leaderboard.matlab import DndTask, SiddTask
    from restore.leaderboard.tasks import ImageTask

    results = arguments.output / "images"
    if track.kind == "sidd":
        return SiddTask(restorer, arguments.input, results, author.model)
    if track.kind == "dnd":
        return DndTask(restorer, arguments.input, results)
    return ImageTask(track, restorer, arguments.input, results, arguments.split)


def _options(file: str) -> Options:
    from restore.options import load

    return load(file, is_train=False)


def _input(arguments: argparse.Namespace, options: Options | None) -> Path:
    """The inputs: -i, or dataroot_lq of the one test dataset of the option file."""
    path, meaning = arguments.input, "-i is the folder of the inputs, or the .mat file of sidd."
    if path is None:
        given = {dataset.key: dataset.dataroot_lq for dataset in options.phases("test", "val")} if options else {}
        roots = {key: root for key, root in given.items() if root is not None}
        if len(roots) != 1 or not isinstance(next(iter(roots.values())), (str, Path)):
            raise OptionsError(
                "give the folder of the inputs with -i, or one test dataset with dataroot_lq in the file."
            )
        ((key, root),) = roots.items()
        path, meaning = Path(root).expanduser(), f"check datasets.{key}.dataroot_lq, or give the inputs with -i."
    if not path.exists():
        raise OptionsError(f"'{path}' does not exist: {meaning}")
    return path


def _inputs(source: Path, output: Path) -> list[Path]:
    """The files that make a run what it is: those of `source`, but for what the run itself writes there."""
    from restore.jobs import without_results

    if not source.is_dir():
        return [source]
    return [path for path in without_results(source.rglob("*"), source, output) if path.is_file()]


def _restorer(arguments: argparse.Namespace, options: Options | None) -> Restorer:
    """The model, folded: it is timed and counted as it would run at its users."""
    from restore.assembly.restorers import restorer_of
    from restore.zoo import load_model

    chosen = {name: getattr(arguments, name) for name in RUNTIME if name in arguments} | {"fold": True}
    if options is None:
        return load_model(arguments.model, **chosen)
    options.runtime = options.runtime.model_copy(update=chosen)
    return restorer_of(options)


def _block(arguments: argparse.Namespace, options: Options | None) -> Mapping[str, Any]:
    """The option block that builds the network of the model, as it was trained."""
    from restore.zoo.load import network_block

    if options is None:
        return network_block(arguments.model)
    source, key, _ = options.path.pretrained()
    return options.network_g or network_block(source, key=key, task=options.path.pretrain_task_g)


def _metric(arguments: argparse.Namespace, options: Options | None) -> tuple[BoundMetric, Mapping[str, Any]]:
    """The metric whose scores are submitted, and its option block."""
    from restore.assembly.metrics import metrics_of
    from restore.metrics import bind_metrics

    blocks = options.val.metrics if options else {arguments.model: {"type": arguments.model}}
    if len(blocks) != 1:
        raise OptionsError(f"val.metrics must name the one metric whose scores are submitted; it names {len(blocks)}.")
    bound = metrics_of(options) if options else bind_metrics(blocks, "--model")
    ((metric, block),) = zip(bound.values(), blocks.values(), strict=True)
    return metric, block


def _score(
    arguments: argparse.Namespace, track: Track, submission: Submission, work: WorkFolder, name: str, team: Team | None
) -> None:
    """Say what the organisers' scorer will say; write what their repository would."""
    from restore.leaderboard.board import Entry, add_entry
    from restore.leaderboard.organisers import merge_results, results_entry
    from restore.leaderboard.scoring import Scorer, score

    scores = score(Scorer(track), submission.zip, arguments.reference)
    psnr = scores.values["psnr"]
    logger.info("PSNR %.4f dB, SSIM %.4f (%s)", psnr, scores.values["ssim"], scores.about)
    split = "test" if arguments.split == "test" else "valid"
    if team and track.name in RESULTS_JSON:
        entry = results_entry(
            [work.records[image]["network_s"] * 1e3 for image in scores.images],
            [values["psnr"] for values in scores.images.values()],
            submission.runtime.peak_mib,
            submission.complexity,
            split=split,
        )
        merge_results(work.path / "results.json", team.label, entry)
    if arguments.board:
        counted = dataclasses.asdict(submission.complexity)
        cost = {
            **counted,
            "runtime_ms": submission.runtime.mean_s * 1e3,
            "memory_mib": submission.runtime.peak_mib,
        }
        values = {key: scores.values[key] for key in ("psnr", "ssim")}
        if split == "test":
            values["psnr_test"] = values.pop("psnr")
        dataset = arguments.split or arguments.input.name
        add_entry(arguments.board, Entry(name, track.name, values, cost, dataset))


def _report(submission: Submission, track: Track) -> None:
    runtime = submission.runtime
    warm = "" if runtime.without_first_s is None else f", {runtime.without_first_s:.3f} s without the first"
    counted = "with reading and writing" if track.clock == "with_io" else "the network alone"
    logger.info("runtime: %.3f s per image%s (%s); peak %.0f MiB", runtime.mean_s, warm, counted, runtime.peak_mib)
    if submission.complexity:
        cost = submission.complexity
        logger.info(
            "cost at 256x256: %.3f M parameters, %.2f G multiply-adds, %.2f M activations, %d convolutions",
            cost.params_m,
            cost.flops_g,
            cost.activations_m,
            cost.num_conv,
        )
    logger.info("ready: %s, %d files, checked", submission.zip, len(submission.names))


def _identifier(text: str) -> str:
    """A name that can name a Python module."""
    name = re.sub(r"\W+", "_", text, flags=re.ASCII).strip("_") or "model"
    return name if name[0].isalpha() else f"m{name}"
