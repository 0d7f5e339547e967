"""`restore submit TRACK`: from a model and a folder to a zip that the organisers accept.

    restore submit sr_x4 -m swinir_light_x4 -i DIV2K_test_LR -o submissions/mine --split test
    restore submit esr -opt options/mine.yml -o submissions/esr --reference HR --team 7 --name Mine --template esr
    restore submit perceptual_iqa -m psnr -i Dis --reference Ref -o submissions/iqa

An interrupted run goes on where it stopped when the same command is given again; a zip is made of complete runs only,
and takes its name after it was opened again and found right.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from restore.commands.arguments import add_threads, given_path, output_folder, tile, use_threads
from restore.commands.progress import naming_progress
from restore.errors import OptionsError

if TYPE_CHECKING:
    from restore.leaderboard.submission import Submission
    from restore.leaderboard.tracks import Track

__all__ = ["add_arguments", "run"]

TRACK_NAMES = ("sr_x4", "esr", "denoise50", "perceptual_iqa", "sidd", "dnd")
RUNTIME = ("device", "precision", "tile", "tile_overlap", "self_ensemble")
logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("track", choices=TRACK_NAMES, help="what is submitted to")
    parser.add_argument("-m", "--model", help="a shipped model or a weights file; for perceptual_iqa a metric")
    parser.add_argument("-opt", metavar="FILE", help="option file that names the network, its weights and the inputs")
    parser.add_argument("-i", "--input", type=given_path, help="folder of the inputs; the .mat file for sidd")
    parser.add_argument("-o", "--output", type=output_folder, required=True, help="folder of the submission")
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
    about.add_argument("--weights-url", default="", help="address of weights larger than 100 MB")
    about.add_argument("--board", type=Path, help="add the scored run to this local leaderboard (.jsonl)")
    running = parser.add_argument_group(
        "running the network (an option file says this under runtime)", argument_default=argparse.SUPPRESS
    )
    running.add_argument("--device", help="auto, cpu, cuda, cuda:1, mps, xpu or npu")
    running.add_argument("--precision", help="auto, fp32, bf16 or fp16")
    running.add_argument("--tile", type=tile, help="largest tile side in px; none; auto: by memory")
    running.add_argument("--tile-overlap", type=int, help="overlap of tiles in px")
    add_threads(running)
    running.add_argument("--self-ensemble", action="store_true", help="mean over 8 flips and rotations")


def run(arguments: argparse.Namespace) -> int:
    """Make the submission; 0 when it is ready."""
    from restore.assembly.submissions import Order, make_submission
    from restore.leaderboard.tracks import find_track
    from restore.options import load

    use_threads(arguments)
    if (arguments.model is None) == (arguments.opt is None):
        raise OptionsError("give a model with -m, or an option file with -opt: one of the two.")
    track = find_track(arguments.track)
    _require_effect(arguments, track)
    order = Order(
        track=track,
        model=arguments.model,
        options=load(arguments.opt, is_train=False) if arguments.opt else None,
        source=arguments.input,
        output=arguments.output,
        reference=arguments.reference,
        split=arguments.split,
        name=arguments.name,
        extra_data=arguments.extra_data,
        description=arguments.description,
        template=arguments.template,
        team=arguments.team,
        weights_url=arguments.weights_url,
        board=arguments.board,
        runtime={name: getattr(arguments, name) for name in RUNTIME if name in arguments},
    )
    submission, scores = make_submission(order, naming_progress)
    _report(submission, track)
    if scores:
        psnr, ssim = scores.values["psnr"], scores.values["ssim"]
        logger.info("PSNR %.4f dB, SSIM %.4f (%s)", psnr, ssim, scores.about)
    return 0


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
