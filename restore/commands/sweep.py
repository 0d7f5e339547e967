"""`restore sweep`: train the same small body with every mixer, and draw quality against cost.

    restore sweep                                            every mixer, three seeds, x4 and denoising
    restore sweep --mixers window,outlook,knn_graph --iterations 5000 -o results/three
    restore sweep -opt my_task.yml --set datasets.val.dataroot_gt=...

It goes on where it was interrupted. The record and the page are written after every training.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from restore.commands.arguments import add_threads, positive, use_threads
from restore.terminal import tell

__all__ = ["add_arguments", "run"]

FILES = ("train_sweep_sr_x4", "train_sweep_denoise_25")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    from restore.options import add_override_arguments

    parser.add_argument(
        "-opt",
        action="append",
        metavar="FILE",
        help=f"option file of a task, several times; default: {' and '.join(FILES)}",
    )
    parser.add_argument("--mixers", help="names with commas between; default: all")
    parser.add_argument("--seeds", type=positive, default=3, metavar="N", help="trainings of each mixer and task")
    parser.add_argument("--iterations", type=positive, metavar="N", help="of each training; default: as the files say")
    parser.add_argument(
        "-o", "--output", default="results/sweep", metavar="DIR", help="folder of record, page and runs"
    )
    parser.add_argument(
        "--remeasure",
        action="store_true",
        help="measure time and memory again, also of what was done before (while nothing else runs)",
    )
    add_threads(parser)
    add_override_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    from restore.assembly.sweeps import PAGE, sweep

    use_threads(arguments)
    output = Path(arguments.output).expanduser()
    names = [name.strip() for name in (arguments.mixers or "").split(",") if name.strip()]
    code = sweep(
        arguments.opt or FILES,
        output,
        mixers=names or None,
        num_seeds=arguments.seeds,
        iterations=arguments.iterations,
        remeasure=arguments.remeasure,
        overrides=arguments.overrides,
        say=tell,
    )
    if (output / PAGE).exists():
        tell(f"{output / PAGE}", out=True)
    return code
