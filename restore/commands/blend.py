"""`restore blend`: weights between those of two networks, such as a sharp one and a faithful one.

restore blend net_psnr.pth net_gan.pth --alpha 0.7 -o between.pth
restore run -m between.pth -i photos -o restored
"""

from __future__ import annotations

import argparse
import contextlib
import logging
from pathlib import Path
from typing import Any

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Two models, and how much of each."""
    parser.add_argument("first", help="a model's name or weights file")
    parser.add_argument("second", help="another one of the same network")
    parser.add_argument("--alpha", type=float, default=0.5, help="share of the second: 0 is the first, 1 the second")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="the new weights, .pth")


def run(arguments: argparse.Namespace) -> int:
    """Write the file; returns the exit code."""
    from restore.errors import CheckpointError, OptionsError, OutputError
    from restore.networks.checkpoint import NETWORK_BLOCK
    from restore.training.checkpoints import save_file
    from restore.zoo.blending import blend
    from restore.zoo.load import network_block

    if arguments.output.suffix != ".pth":
        raise OptionsError(f"'{arguments.output}': weights are written as .pth.")
    if arguments.output.exists():
        raise OutputError(f"{arguments.output} exists: remove it, or name another file with --output.")
    network = blend(arguments.first, arguments.second, arguments.alpha)
    content: dict[str, Any] = {"params": network.state_dict()}
    with contextlib.suppress(CheckpointError):  # a network of spandrel, told from its keys
        content[NETWORK_BLOCK] = network_block(arguments.first)
    save_file(content, arguments.output)
    shares = f"{1 - arguments.alpha:g} of {arguments.first} and {arguments.alpha:g} of {arguments.second}"
    logging.getLogger("restore").info("wrote %s: %s", arguments.output, shares)
    return 0
