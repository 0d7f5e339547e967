"""`restore run`: restore a photograph or a folder of them.

    restore run -m swinir_light_x4 -i photos -o restored --recursive --resume

Results keep depth (8, 16 bit, float), channels (grey, alpha), colour profile, EXIF block and sub-folders. PNG, TIFF and
BMP stay what they are; other formats become PNG, so that nothing is compressed away again (`--ext jpg` asks for JPEG).
Inputs are never overwritten. A result appears whole or not at all, so after any interruption `--resume` does just what
is missing.
"""

from __future__ import annotations

import argparse
import logging
import time
from typing import TYPE_CHECKING

from restore.errors import ImageError, OptionsError

if TYPE_CHECKING:
    from restore.inference import Restorer
    from restore.inference.folder import Job, Outcome

__all__ = ["add_arguments", "run", "run_jobs"]

logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    model = parser.add_mutually_exclusive_group(required=True)
    model.add_argument("-m", "--model", help="name of a model (see `restore models`), or a .pth or .safetensors file")
    model.add_argument("--task", help="take the model that suits a task: sr, denoise or jpeg")
    parser.add_argument("--model-task", help="of weights for several tasks, the one to use: sr_x2, or its number")
    parser.add_argument("-i", "--input", required=True, help="an image, or a folder of images")
    parser.add_argument("-o", "--output", required=True, help="folder of the results; a file name for a single image")
    task = parser.add_argument_group("what the task is")
    task.add_argument("--scale", type=int, help="of super-resolution, by default 4")
    task.add_argument("--sigma", type=float, help="level of the noise, on the scale of 0 to 255")
    task.add_argument("--jpeg-quality", type=int, help="quality that the JPEG was saved with, 1 to 100")
    files = parser.add_argument_group("files")
    files.add_argument("--recursive", action="store_true", help="go into sub-folders")
    files.add_argument("--resume", action="store_true", help="skip images whose result is there")
    files.add_argument("--suffix", default="", help="added to the names of the results, such as _x4")
    files.add_argument("--ext", default="auto", help="format of the results; auto: the input's, PNG if that is lossy")
    files.add_argument("--quality", type=int, default=95, help="of lossy formats, 1 to 100")
    running = parser.add_argument_group("running the network")
    running.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 or mps")
    running.add_argument("--precision", default="auto", help="auto, fp32, bf16 or fp16")
    running.add_argument("--tile", type=_tile, default="auto", help="largest tile side in px; none; auto: by memory")
    running.add_argument("--tile-overlap", type=int, default=32, help="overlap of tiles in px")
    running.add_argument("--tile-batch", type=_tile, default="auto", help="tiles that run together")
    running.add_argument("--tiling", help="tiling policy: blend, swinir_script, ipt_chop, square128")
    running.add_argument("--padding", help="padding policy; by default the model's own")
    running.add_argument("--self-ensemble", action="store_true", help="mean over 8 flips and rotations: 8 times slower")
    running.add_argument("--compile", action="store_true", help="compile the network's blocks: pays on many images")
    running.add_argument("--channels-last", action="store_true", help="memory layout that some processors prefer")


def run(arguments: argparse.Namespace) -> int:
    """Restore what was asked for; 0 when everything is done, 1 when some images failed."""
    from restore.inference.folder import finished_jobs, plan_jobs
    from restore.zoo import load_model

    if not 1 <= arguments.quality <= 100:
        raise OptionsError(f"--quality is {arguments.quality}: allowed is 1 to 100.")
    model = arguments.model or _model_for(arguments)
    jobs = plan_jobs(
        arguments.input, arguments.output, recursive=arguments.recursive, suffix=arguments.suffix, ext=arguments.ext
    )
    done = set(finished_jobs(jobs)) if arguments.resume else set()
    missing = [job for job in jobs if job not in done]
    if not missing:
        logger.info("all %d images are done already.", len(jobs))
        return 0
    restorer = load_model(
        model,
        task=arguments.model_task,
        device=arguments.device,
        precision=arguments.precision,
        tile=arguments.tile,
        tile_overlap=arguments.tile_overlap,
        tile_batch=arguments.tile_batch,
        tiling=arguments.tiling,
        padding=arguments.padding,
        self_ensemble=arguments.self_ensemble,
        compile=arguments.compile,
        channels_last=arguments.channels_last,
    )
    logger.info(restorer.describe())
    return run_jobs(missing, restorer, quality=arguments.quality, num_skipped=len(done))


def _model_for(arguments: argparse.Namespace) -> str:
    """Name of the model for `--task`."""
    from restore.zoo.choose import choose_model

    scale = arguments.scale or (4 if arguments.task == "sr" else 1)
    card = choose_model(arguments.task, scale=scale, sigma=arguments.sigma, quality=arguments.jpeg_quality)
    logger.info("model: %s. %s", card.name, card.summary)
    return card.name


def run_jobs(jobs: list[Job], restorer: Restorer, *, quality: int = 95, num_skipped: int = 0) -> int:
    """Restore files with a progress bar and a summary; the exit code.

    Raises:
        ImageError: there was one job, and it failed.
        OutputError: nothing more can be written.
        KeyboardInterrupt: after the summary of what was done.
    """
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from restore.inference.folder import restore_files

    console = Console(stderr=True)
    outcomes: list[Outcome] = []
    started = time.perf_counter()
    name, share = TextColumn("{task.description}"), TextColumn("{task.percentage:>3.0f}%")
    try:
        with Progress(BarColumn(), share, TimeRemainingColumn(), name, console=console, transient=True) as progress:
            task = progress.add_task("", total=len(jobs))

            def show(job: Job, share: float) -> None:
                progress.update(task, completed=len(outcomes) + share, description=escape(job.source.name))

            for outcome in restore_files(jobs, restorer, quality=quality, on_progress=show):
                outcomes.append(outcome)
                progress.update(task, completed=len(outcomes))
    finally:
        _summarise(console, outcomes, len(jobs), num_skipped, time.perf_counter() - started)
    failed = [outcome for outcome in outcomes if outcome.error]
    if failed and len(jobs) == 1 and not num_skipped:
        raise ImageError(failed[0].error)
    return 1 if failed else 0


def _summarise(console: object, outcomes: list[Outcome], num_jobs: int, num_skipped: int, seconds: float) -> None:
    from rich.markup import escape
    from rich.table import Table

    failed = [outcome for outcome in outcomes if outcome.error]
    if failed and num_jobs > 1:
        table = Table("failed", "why")
        for outcome in failed:
            table.add_row(escape(outcome.job.source.name), escape(outcome.error))
        console.print(table)
    parts = [f"{len(outcomes) - len(failed)} restored in {seconds:.1f} s"]
    parts += [f"{num_skipped} done before"] if num_skipped else []
    parts += [f"{len(failed)} failed"] if failed else []
    parts += [f"{num_jobs - len(outcomes)} left"] if len(outcomes) < num_jobs else []
    console.print(", ".join(parts), highlight=False)


def _tile(text: str) -> int | str | None:
    if text.lower() in ("auto", "none"):
        return None if text.lower() == "none" else "auto"
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not auto, none or a whole number") from None
