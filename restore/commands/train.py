"""`restore train -opt FILE`: train a model as an option file says."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command: BasicSR's, and `--set`."""
    parser.add_argument("-opt", "--opt", required=True, metavar="FILE", help="the option file (YAML)")
    parser.add_argument("--auto_resume", action="store_true", help="go on from the newest state of this run")
    parser.add_argument("--num_threads", type=int, help="threads of the processor to use")


class _Block(dict):
    def __getattr__(self, name):
        return self.get(name)


def _blocks(value):
    return _Block({k: _blocks(v) for k, v in value.items()}) if isinstance(value, dict) else value


def run(arguments: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    import torch
    import yaml

    from restore.training.run import train

    if arguments.num_threads:
        torch.set_num_threads(arguments.num_threads)
    with open(arguments.opt) as stream:
        options = _blocks(yaml.safe_load(stream))
    return train(options, auto_resume=arguments.auto_resume)
