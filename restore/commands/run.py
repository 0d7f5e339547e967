"""`restore run`: restore photographs, or a video.

    restore run -m swinir_light_x4 -i photos -o restored --recursive --resume
    restore run -m swinir_light_x4 -i clip.mp4 -o restored.mp4

Results keep depth (8, 16 bit, float), channels (grey, alpha), colour profile, EXIF block and sub-folders. PNG, TIFF and
BMP stay what they are; other formats become PNG, so that nothing is compressed away again (`--ext jpg` asks for JPEG).
Inputs are never overwritten. A result appears whole or not at all, so after any interruption `--resume` does just what
is missing; a video goes on after its last finished segment by itself.
"""

from __future__ import annotations

import argparse
import logging
import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from restore.commands.arguments import (
    add_json,
    add_threads,
    auto_or_positive,
    given,
    tile,
    use_threads,
    value_range,
)
from restore.errors import OptionsError

if TYPE_CHECKING:
    from restore.commands.restoring import Engine

__all__ = ["add_arguments", "run"]

ENGINES = ("torch", "onnxruntime", "openvino", "ray")
NAMED = 10  # of the files that are left out
RUNTIME = (
    "device",
    "precision",
    "tile",
    "tile_overlap",
    "tile_batch",
    "tiling",
    "padding",
    "self_ensemble",
    "fold",
    "compile",
    "channels_last",
    "input_range",
    "depth",
    "fill",
    "merge",
    "outscale",
    "size",
)
DEPTHS = {"8": "uint8", "16": "uint16", "float": "float32"}

logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    from restore.commands import run_video

    model = parser.add_mutually_exclusive_group(required=True)
    model.add_argument(
        "-m",
        "--model",
        type=given,
        help="a model: its name (`restore models`), address (hf:OWNER/NAME, https://, omdb:NAME) or weights file",
    )
    model.add_argument("--task", help="take the model that suits a task: sr, photo, denoise, jpeg, derain, deblur")
    parser.add_argument("--model-task", help="of weights for several tasks, the one to use: sr_x2, or its number")
    parser.add_argument(
        "-i",
        "--input",
        type=given,
        required=True,
        nargs="+",
        help="images, folders of them, 'photos/*.png', frames/%%05d.png, a text file of paths; or a video",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=given,
        required=True,
        help="folder or pattern of the results; a file name for one image or video",
    )
    task = parser.add_argument_group("what the task is (with --task)")
    task.add_argument("--scale", type=int, help="of sr and photo, by default 4")
    task.add_argument(
        "--sigma",
        type=float,
        help="level of the noise, 0 to 255; also for -m, if the network is told it",
    )
    task.add_argument("--jpeg-quality", type=int, help="quality that the JPEG was saved with, 1 to 100")
    files = parser.add_argument_group("files")
    sizes = files.add_mutually_exclusive_group()
    sizes.add_argument("--outscale", type=float, metavar="N", help="enlarge by this instead of the network's scale")
    sizes.add_argument(
        "--size", metavar="WxH", help="resize the results to 1920x1080, or in their proportions to 1920x or x1080"
    )
    files.add_argument("--recursive", action="store_true", help="go into sub-folders")
    files.add_argument("--resume", action="store_true", help="skip images whose result is there")
    files.add_argument("--suffix", default="", help="added to the names of the results, such as _x4")
    files.add_argument("--ext", default="auto", help="format of the results; auto: the input's, PNG if that is lossy")
    files.add_argument(
        "--depth", choices=("auto", *DEPTHS), default="auto", help="bits of the results; auto: the input's"
    )
    files.add_argument(
        "--alpha", choices=("keep", "flatten"), default="keep", help="transparency: keep it, or lay images on white"
    )
    files.add_argument(
        "--input-range",
        type=value_range,
        metavar="LOW,HIGH",
        help="black and white of float images, by default 0,1: scaled to it, the result back; clipped beyond",
    )
    parser._negative_number_matcher = re.compile(r"-[\d.]")  # so that -1,1 is no option
    files.add_argument(
        "--fill-nan", dest="fill", action="store_true", help="give pixels that are NaN or infinite the nearest values"
    )
    add_json(files, "a summary")
    files.add_argument("--quality", type=int, default=95, help="of lossy formats, 1 to 100")
    run_video.add_arguments(parser)
    engines = parser.add_argument_group("engines")
    engines.add_argument(
        "--engine",
        choices=ENGINES,
        default="torch",
        help="what runs the network; ray: torch in a worker for each device",
    )
    engines.add_argument(
        "--provider",
        metavar="NAME",
        help="of onnxruntime: cuda, directml, coreml, openvino, tensorrt, cpu; of openvino: CPU, GPU, NPU; default: by "
        "--device",
    )
    cluster = parser.add_argument_group("several machines")
    cluster.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="images that are worked on at once, each by a process; default: one for each device",
    )
    cluster.add_argument("--ray-address", metavar="ADDRESS", help="of a cluster that runs: HOST:PORT, or auto")
    running = parser.add_argument_group("running the network")
    running.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps, xpu or npu")
    add_threads(running)
    running.add_argument("--precision", default="auto", help="auto, fp32, bf16 or fp16; int8 with onnxruntime")
    running.add_argument("--tile", type=tile, default="auto", help="largest tile side in px; none; auto: by memory")
    running.add_argument("--tile-overlap", type=int, default=32, help="overlap of tiles in px")
    running.add_argument("--tile-batch", type=auto_or_positive, default="auto", help="tiles that run together")
    running.add_argument("--tiling", help="tiling policy: blend, swinir_script, ipt_chop, square128")
    running.add_argument("--padding", help="padding policy; by default the model's own")
    running.add_argument("--self-ensemble", action="store_true", help="mean over 8 flips and rotations: 8 times slower")
    running.add_argument("--fold", action="store_true", help="join branches that only training needs")
    running.add_argument(
        "--merge",
        metavar="HOW",
        help="merge tokens in attention of whole images: tome:0.3 or cluster:28x28; :blocks after it for whole blocks",
    )
    running.add_argument("--compile", action="store_true", help="compile the network's blocks: pays on many images")
    running.add_argument(
        "--channels-last",
        action=argparse.BooleanOptionalAction,
        help="keep the channels of maps innermost; by default in convolutional networks on the processor",
    )


def run(arguments: argparse.Namespace) -> int:
    """Restore what was asked for; 0 when everything is done, 1 when some of it failed."""
    from restore.commands import run_video

    if not 1 <= arguments.quality <= 100:
        raise OptionsError(f"--quality is {arguments.quality}: must be 1 to 100.")
    use_threads(arguments)
    _require_task(arguments)
    arguments.depth = DEPTHS.get(arguments.depth)
    model = arguments.model or _model_for(arguments)
    if run_video.concerns_video(arguments):
        return _run_video(arguments, model)
    return _run_images(arguments, model)


def _run_images(arguments: argparse.Namespace, model: str) -> int:
    from restore.commands.restoring import run_jobs, tell_outcomes
    from restore.jobs import finished_jobs, left_out, plan_jobs

    source = arguments.input if len(arguments.input) > 1 else arguments.input[0]
    jobs = plan_jobs(
        source, arguments.output, recursive=arguments.recursive, suffix=arguments.suffix, ext=arguments.ext
    )
    _name_others(left_out(source, arguments.output, recursive=arguments.recursive))
    done = set(finished_jobs(jobs, resume=arguments.resume))
    missing = [job for job in jobs if job not in done]
    if kept := sum(job.kept for job in jobs):
        logger.info("results of an earlier run lie among the inputs and stay as they are: %d", kept)
    if not missing:
        logger.info("nothing to do: %d done before", len(jobs))
        if arguments.json:
            tell_outcomes([], 0, len(done))
        return 0
    engine = _engine(arguments, model)
    return run_jobs(missing, engine, num_skipped=len(done), as_json=arguments.json)


def _run_video(arguments: argparse.Namespace, model: str) -> int:
    from restore.commands import run_video
    from restore.zoo import load_model

    if arguments.engine == "ray":
        raise OptionsError(f"--engine {arguments.engine} restores images: a video is restored on one machine.")
    return run_video.run(arguments, lambda: load_model(model, **_how(arguments)))


def _engine(arguments: argparse.Namespace, model: str) -> Engine:
    """What takes jobs and yields outcomes."""
    if arguments.engine == "ray":
        from restore.inference.cluster import restore_with_ray
        from restore.zoo import load_network

        return partial(
            restore_with_ray,
            network=load_network(model, **_choice(arguments)),
            runtime=_runtime(arguments),
            quality=arguments.quality,
            flat=arguments.alpha == "flatten",
            num_workers=arguments.workers,
            address=arguments.ray_address,
        )
    from restore.inference.folder import restore_files
    from restore.zoo import load_model

    for option in ("workers", "ray_address"):
        if getattr(arguments, option) is not None:
            raise OptionsError(f"--{option.replace('_', '-')} belongs to --engine ray.")
    restorer = load_model(model, **_how(arguments))
    logger.info(restorer.describe())
    return partial(restore_files, restorer=restorer, quality=arguments.quality, flat=arguments.alpha == "flatten")


def _choice(arguments: argparse.Namespace) -> dict[str, Any]:
    """Which of a model's tasks, and, of a model that is named, what it is told about the noise."""
    return {"task": arguments.model_task, "sigma": None if arguments.task else arguments.sigma}


def _how(arguments: argparse.Namespace) -> dict[str, Any]:
    """The arguments of `load_model`."""
    how = {**_choice(arguments), **_runtime(arguments), "engine": arguments.engine}
    if arguments.engine != "torch":
        return {**how, "provider": arguments.provider}
    if arguments.provider:
        raise OptionsError("--provider belongs to --engine onnxruntime or openvino.")
    return how


def _runtime(arguments: argparse.Namespace) -> dict[str, Any]:
    """The arguments of the `Restorer`."""
    return {name: getattr(arguments, name) for name in RUNTIME}


def _name_others(others: list[Path]) -> None:
    from restore.images.formats import is_image_name, unread_here

    unread = [path for path in others if is_image_name(path)]
    if unread:
        logger.warning("left out: %s: %s", _named(unread), unread_here(unread))
    if others := [path for path in others if path not in unread]:
        logger.info("no images, left out: %s", _named(others))


def _named(paths: list[Path]) -> str:
    more = f" and {len(paths) - NAMED} more" if len(paths) > NAMED else ""
    return ", ".join(path.name for path in paths[:NAMED]) + more


def _require_task(arguments: argparse.Namespace) -> None:
    """A model named with -m does what it was trained for, whatever the task's options say."""
    if arguments.task is None:
        for option in ("scale", "jpeg_quality"):
            if getattr(arguments, option) is not None:
                raise OptionsError(
                    f"--{option.replace('_', '-')} chooses a model for --task. '{arguments.model}' is a model already: "
                    "leave one of them out."
                )


def _model_for(arguments: argparse.Namespace) -> str:
    """Name of the model for `--task`."""
    from restore.zoo.choose import better_download, choose_model

    scale = arguments.scale or (4 if arguments.task in ("sr", "photo") else 1)
    card = choose_model(arguments.task, scale=scale, sigma=arguments.sigma, quality=arguments.jpeg_quality)
    logger.info("model: %s. %s", card.name, card.summary)
    if better := better_download(card, sigma=arguments.sigma, quality=arguments.jpeg_quality):
        logger.info("%s would be downloaded when named with -m: %s", better[0].name, better[1])
    return card.name
