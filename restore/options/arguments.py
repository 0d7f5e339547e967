"""BasicSR's command line, which `train` and `test` share, and the options that it asks for."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from restore.options.loading import load
from restore.options.schema import Options
from restore.options.source import Override

__all__ = ["add_option_arguments", "add_override_arguments", "load_from_arguments"]


def add_option_arguments(parser: argparse.ArgumentParser) -> None:
    """Add `-opt`, `--set`, `--force_yml`, `--launcher`, `--auto_resume`, `--debug` and `--local_rank`."""
    parser.add_argument(
        "-opt",
        required=True,
        metavar="FILE",
        help="option file (YAML, in BasicSR's schema), or the name of one that comes with the package",
    )
    add_override_arguments(parser)
    parser.add_argument(
        "--launcher",
        choices=("none", "pytorch", "slurm"),
        default="none",
        help="who started the processes; torchrun is recognised without it",
    )
    parser.add_argument(
        "--auto_resume", "--auto-resume", action="store_true", help="go on from the newest state of this run, if any"
    )
    parser.add_argument(
        "--debug",
        action="store_true",
        help="show tracebacks; put debug_ before the name, which makes a training validate and save every 8 iterations",
    )
    parser.add_argument("--local_rank", "--local-rank", type=int, default=0, help=argparse.SUPPRESS)


def add_override_arguments(parser: argparse.ArgumentParser) -> None:
    """Add `--set` and `--force_yml`, whose values end up in `overrides` in the order given."""
    for flag, example in (("--set", "train.ema_decay=0.999"), ("--force_yml", "train:ema_decay=0.999")):
        parser.add_argument(
            flag,
            nargs="+",
            action=_CollectOverrides,
            dest="overrides",
            default=[],
            metavar="KEY=VALUE",
            help=f"change options, for example {example}" + (" (BasicSR's spelling)" if ":" in example else ""),
        )


class _CollectOverrides(argparse.Action):
    """Appends overrides together with the flag they followed."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        given: Sequence[str] = values
        so_far = getattr(namespace, self.dest)
        setattr(namespace, self.dest, [*so_far, *(Override(text, option_string or "--set") for text in given)])


def load_from_arguments(arguments: argparse.Namespace, *, is_train: bool) -> Options:
    """The options that parsed arguments ask for.

    Raises:
        OptionsError: with every mistake in the file and the overrides.
    """
    resumes = arguments.auto_resume
    options = load(arguments.opt, arguments.overrides, is_train=is_train, debug=arguments.debug, resumes=resumes)
    options._auto_resume = resumes
    options._launcher = arguments.launcher
    return options
