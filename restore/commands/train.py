"""`restore train -opt FILE`: train a model as an option file says."""

from __future__ import annotations

import argparse
from pathlib import Path

from restore.commands.arguments import add_threads, use_threads
from restore.terminal import tell


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """BasicSR's arguments, and ours."""
    from restore.options.arguments import add_option_arguments

    add_option_arguments(parser)
    add_threads(parser, "--num_threads")
    parser.add_argument("--plot", action="store_true", help="draw the curves of this run so far, and do not train")


def run(arguments: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    from restore.assembly.trainings import train
    from restore.options.arguments import load_from_arguments

    use_threads(arguments)
    options = load_from_arguments(arguments, is_train=True)
    if arguments.plot:
        return _plot(options.paths.experiments_root)
    return train(options)


def _plot(folder: Path) -> int:
    from restore.errors import DataError
    from restore.training.plot import plot_history

    page = plot_history(folder)
    if page is None:
        raise DataError(f"{folder} holds no history of a training.")
    tell(f"{page}", out=True)
    return 0
