"""`restore demo`: restore six photographs with the shipped SwinIR, and write a page to look at.

The same as `restore test -opt swinir_x4`; nothing is downloaded. Results go to `results/swinir_x4` in the folder where
the command is called.
"""

from __future__ import annotations

import argparse

from restore.commands.arguments import add_json, add_threads

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `restore test` has beside the option file."""
    from restore.options.arguments import add_override_arguments

    add_override_arguments(parser)
    add_threads(parser)
    add_json(parser, "the figures as a table")


def run(arguments: argparse.Namespace) -> int:
    """Evaluate the shipped model on the demo's photographs; returns the exit code."""
    from restore.commands import test

    parser = argparse.ArgumentParser()
    test.add_arguments(parser)
    parsed = parser.parse_args(["-opt", "swinir_x4"])
    parsed.overrides, parsed.threads, parsed.json = arguments.overrides, arguments.threads, arguments.json
    return test.run(parsed)
