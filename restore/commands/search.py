"""`restore search`: the best network of a space within some milliseconds or parameters, ready to train on.

    restore search -opt options/search_denoise_25.yml --latency 30ms
    restore search -opt options/search_denoise_25.yml --params 0.3M -o results/small
    restore train -opt results/small/300000params.yml

It goes on where it was interrupted; another bound in the same folder begins with the supernet that is there.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from restore.commands.arguments import add_threads, output_folder, positive, use_threads
from restore.terminal import tell

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    from restore.options import add_override_arguments

    parser.add_argument("-opt", required=True, metavar="FILE", help="option file of a training with a section `search`")
    parser.add_argument(
        "--latency", type=milliseconds, metavar="TIME", help="at most so long for an image of search.image_px: 30ms"
    )
    parser.add_argument("--params", type=count, metavar="N", help="at most so many parameters: 0.3M, 300k or 300000")
    parser.add_argument("--iterations", type=positive, metavar="N", help="of the supernet; default: as the file says")
    parser.add_argument(
        "-o", "--output", type=output_folder, default="results/search", metavar="DIR", help="folder of everything"
    )
    add_threads(parser)
    add_override_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    from restore.assembly.searches import PAGE, Bound, search
    from restore.errors import OptionsError

    if arguments.latency is None and arguments.params is None:
        raise OptionsError("give --latency (30ms), --params (0.3M) or both: what the network may cost.")
    use_threads(arguments)
    output = Path(arguments.output).expanduser()
    code = search(
        arguments.opt,
        output,
        Bound(parameters=arguments.params, milliseconds=arguments.latency),
        iterations=arguments.iterations,
        overrides=arguments.overrides,
        say=tell,
    )
    if (output / PAGE).exists():
        tell(f"{output / PAGE}", out=True)
    return code


def milliseconds(text: str) -> float:
    """A time as milliseconds: `30ms`, `0.03s`, or a number of milliseconds."""
    return _number(text, {"ms": 1.0, "s": 1e3}, "a time above 0, such as 30ms")


def count(text: str) -> int:
    """A number of things: `0.3M`, `300k` or `300000`."""
    return int(_number(text, {"k": 1e3, "K": 1e3, "M": 1e6}, "a number above 0, such as 0.3M"))


def _number(text: str, units: dict[str, float], wanted: str) -> float:
    unit = next((unit for unit in units if text.endswith(unit)), "")
    try:
        number = float(text.removesuffix(unit)) * units.get(unit, 1.0)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"'{text}' is not {wanted}")
    return round(number, 9)
