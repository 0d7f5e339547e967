"""`restore sweep`: train the same small network with every mixer or encoder, and draw quality against cost.

    restore sweep                                            every mixer, three seeds, x4 and denoising
    restore sweep --mixers window,outlook,knn_graph --iterations 5000 -o results/three
    restore sweep --encoders all -o results/encoders         every family, as a judge of images and in a U-Net
    restore sweep -opt my_task.yml --set datasets.val.dataroot_gt=...

It goes on where it was interrupted. The record and the page are written after every training.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from restore.commands.arguments import add_threads, positive, use_threads
from restore.terminal import tell

__all__ = ["add_arguments", "run"]

FILES = {
    "mixers": ("train_sweep_sr_x4", "train_sweep_denoise_25"),
    "encoders": ("train_sweep_encoders_quality", "train_sweep_encoders_denoise_25"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    from restore.options import add_override_arguments

    parser.add_argument(
        "-opt",
        action="append",
        metavar="FILE",
        help="option file of a task, several times; default: "
        + "; ".join(f"{' and '.join(files)} for {kind}" for kind, files in FILES.items()),
    )
    parser.add_argument("--mixers", metavar="NAMES", help="with commas between, or all; the default")
    parser.add_argument("--encoders", metavar="NAMES", help="with commas between, or all: each family in miniature")
    parser.add_argument("--seeds", type=positive, default=3, metavar="N", help="trainings of each component and task")
    parser.add_argument("--iterations", type=positive, metavar="N", help="of each training; default: as the files say")
    parser.add_argument(
        "-o", "--output", default="results/sweep", metavar="DIR", help="folder of record, page and runs"
    )
    parser.add_argument(
        "--remeasure",
        action="store_true",
        help="measure time and memory again, also of what was done before (while nothing else runs)",
    )
    parser.add_argument(
        "--no-measure",
        action="store_true",
        help="train and count; time and memory are measured by the next run without this, on a quiet machine",
    )
    add_threads(parser)
    add_override_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    from restore.assembly.sweeps import PAGE, sweep

    use_threads(arguments)
    output = Path(arguments.output).expanduser()
    kinds = [kind for kind in FILES if getattr(arguments, kind)] or ["mixers"]
    code = sweep(
        arguments.opt or [file for kind in kinds for file in FILES[kind]],
        output,
        mixers=_names(arguments.mixers),
        encoders=_names(arguments.encoders),
        num_seeds=arguments.seeds,
        iterations=arguments.iterations,
        remeasure=arguments.remeasure,
        measure=not arguments.no_measure,
        overrides=arguments.overrides,
        say=tell,
    )
    if (output / PAGE).exists():
        tell(f"{output / PAGE}", out=True)
    return code


def _names(text: str | None) -> list[str] | None:
    """None for all."""
    names = [name.strip() for name in (text or "all").split(",") if name.strip()]
    return None if names == ["all"] else names
