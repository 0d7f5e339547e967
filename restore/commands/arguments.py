"""Kinds of values that several commands take, as `type` of their arguments."""

from __future__ import annotations

import argparse
from pathlib import Path

from restore.files import expanded, means_file

__all__ = [
    "add_json",
    "add_threads",
    "auto_or_positive",
    "given",
    "given_path",
    "output_folder",
    "positive",
    "tile",
    "use_threads",
    "value_range",
]


def add_json(parser: argparse.ArgumentParser | argparse._ArgumentGroup, what: str = "a table") -> None:
    """Add `--json`: one JSON document on standard output, and nothing else there."""
    parser.add_argument("--json", action="store_true", help=f"print one JSON document instead of {what}")


def add_threads(parser: argparse.ArgumentParser | argparse._ArgumentGroup, *more: str) -> None:
    """Add `--threads`, of every command that runs a network; `more` are other names of it."""
    parser.add_argument(
        *("--threads", *more),
        dest="threads",
        type=positive,
        default=None,
        metavar="N",
        help="threads of the processor that the network computes with; default: one for each core",
    )


def use_threads(arguments: argparse.Namespace) -> None:
    """Compute with as many threads as `--threads` says."""
    if arguments.threads:
        import torch

        torch.set_num_threads(arguments.threads)


def positive(text: str) -> int:
    """A whole number from 1 on."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number of at least 1")
    return number


def auto_or_positive(text: str) -> int | str:
    """`auto`, or a whole number from 1 on."""
    if text.lower() == "auto":
        return "auto"
    try:
        return positive(text)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"{error}, nor auto") from None


def tile(text: str) -> int | str | None:
    """The side of a tile: `auto`, a whole number from 1 on, or None for `none`."""
    if text.lower() == "none":
        return None
    try:
        return auto_or_positive(text)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"{error} or none") from None


def value_range(text: str) -> tuple[float, float]:
    """Two numbers: `LOW,HIGH`."""
    try:
        low, high = map(float, text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not LOW,HIGH, such as 0,255") from None
    return low, high


def given(text: str) -> str:
    """Text that is not empty; an empty path would mean the folder that one is in."""
    if not text:
        raise argparse.ArgumentTypeError("it is empty")
    return text


def given_path(text: str) -> Path:
    """A path, with `~` for one's home."""
    return expanded(given(text))


def output_folder(text: str) -> Path:
    """The path of a folder that is or will be; not a name that ends as those of files do."""
    if means_file(given(text)):
        raise argparse.ArgumentTypeError(
            f"'{text}' is the name of a file, and a folder is written. If a folder of that very name is meant, end it "
            "with /"
        )
    return expanded(text)
