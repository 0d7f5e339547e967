"""`restore train -opt FILE`: train a model as an option file says."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from restore.commands.arguments import positive

if TYPE_CHECKING:
    from torch import nn

    from restore.options import Options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """BasicSR's arguments, and ours."""
    from restore.options.arguments import add_option_arguments

    add_option_arguments(parser)
    parser.add_argument("--num_threads", type=positive, metavar="N", help="threads of the processor to compute with")
    parser.add_argument("--plot", action="store_true", help="draw the curves of this run so far, and do not train")


def run(arguments: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    from restore.options.arguments import load_from_arguments
    from restore.training.run import train

    if arguments.num_threads:
        import torch

        torch.set_num_threads(arguments.num_threads)
    options = load_from_arguments(arguments, is_train=True)
    if arguments.plot:
        return _plot(options.paths.experiments_root)
    for key in options.networks:
        _find_shipped(options.path, f"pretrain_{key}")
    return train(options, _teachers(options))


def _teachers(options: Options) -> dict[str, nn.Module]:
    """The frozen networks that an option file names."""
    from restore.quality import load_quality
    from restore.registry import OBJECTIVES
    from restore.zoo import load_network

    objective = OBJECTIVES.get(options.model_type)
    load = load_quality if objective.judges else load_network
    return {role: load(name) for role, name in objective.teachers(options).items()}


def _find_shipped(paths: object, key: str) -> None:
    """Replace the name of a shipped model by the path of its weights."""
    name = getattr(paths, key, None)
    if name and not Path(name).suffix and not Path(name).exists():
        from restore.zoo.load import weights_path

        setattr(paths, key, weights_path(str(name)))


def _plot(folder: Path) -> int:
    from restore.errors import DataError
    from restore.training.plot import plot_history

    page = plot_history(folder)
    if page is None:
        raise DataError(f"{folder} holds no history of a training.")
    sys.stderr.write(f"{page}\n")
    return 0
