"""`restore analyse`: look into a network on one image, and write a page.

    restore analyse swinir_light_x4 photo.png
    restore analyse triq_small photo.png -o results/analysis/triq

The page shows which pixels an answer depends on (effective receptive field, local attribution), what happens to tokens
through the depth (rank residual, cosines), where attention looks and how alike blocks and heads are, and what every
layer costs. It works for every network that restores or judges: blocks and attention are found as it runs.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from restore.commands.arguments import given, given_path, output_folder, positive

if TYPE_CHECKING:
    import numpy as np
    import torch

    from restore.networks import Network

__all__ = ["add_arguments", "run"]

logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """A model, an image, and what of it."""
    parser.add_argument("model", type=given, help="name of a model that restores or judges, or a weights file")
    parser.add_argument("image", type=given_path, help="an image")
    parser.add_argument("--model-task", help="of weights for several tasks, the one to look at: sr_x2, or its number")
    parser.add_argument("--at", type=_place, metavar="X,Y", help="pixel in the middle of what is looked at")
    parser.add_argument(
        "--side", type=positive, metavar="PX", help="height of what is looked at; default: 48, judges 192"
    )
    parser.add_argument("--steps", type=positive, default=20, help="of the path of the attribution")
    parser.add_argument("--merge", metavar="HOW", help="as in restore run: look at the network with merged tokens")
    parser.add_argument(
        "-o", "--output", type=output_folder, metavar="DIR", help="folder; default: results/analysis/MODEL"
    )


def run(arguments: argparse.Namespace) -> int:
    """Write report.html and analysis.json; returns the exit code."""
    from restore.analysis.findings import analyse, crop_size
    from restore.analysis.report import figures, render
    from restore.files import atomic_write, encoded
    from restore.images import read_image

    network = _network(arguments.model, arguments.model_task)
    pixels = read_image(arguments.image).pixels
    size = crop_size(network, arguments.side)
    part = _part(pixels, size, arguments.at, network.spec.in_channels)
    logger.info("%s on %d x %d px of %s", type(network).__name__, size[1], size[0], arguments.image)
    found = analyse(network, part, num_steps=arguments.steps, merging=arguments.merge)
    name = Path(arguments.model).stem
    facts = [type(network).__name__, arguments.image.name, f"{size[1]}×{size[0]} px"]
    facts += [f"tokens merged by {arguments.merge}"] if arguments.merge else []
    folder = arguments.output or Path("results") / "analysis" / name
    for file_name, text in (("report.html", render(found, name, facts)), ("analysis.json", figures(found))):
        with atomic_write(folder / file_name) as file:
            file.write(encoded(text))
    for key, value in found.figures.items():
        logger.info("%s: %.4g", key, value)
    logger.info("look at %s", folder / "report.html")
    return 0


def _place(text: str) -> tuple[int, int]:
    try:
        x, y = map(int, text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not X,Y, such as 120,80") from None
    return x, y


def _network(model: str, task: str | None) -> Network:
    """What restores, or what judges."""
    from restore.errors import CheckpointError, MissingError
    from restore.quality import load_quality
    from restore.zoo import load_network

    try:
        return load_quality(model)
    except (CheckpointError, MissingError):
        return load_network(model, task=task)


def _part(pixels: np.ndarray, size: tuple[int, int], at: tuple[int, int] | None, channels: int) -> torch.Tensor:
    """(1, C, rows, columns) of the image in [0, 1]; what is missing is reflected."""
    import numpy as np

    from restore.errors import ImageError
    from restore.images import convert_depth, to_tensor
    from restore.images.colour import grey_to_rgb, rgb_to_grey

    height, width = pixels.shape[:2]
    x, y = at or (width // 2, height // 2)
    if not (0 <= x < width and 0 <= y < height):
        raise ImageError(f"--at {x},{y} lies outside the image of {width} x {height} px.")
    top, left = (min(max(place - part // 2, 0), max(side - part, 0)) for place, part, side in
                 zip((y, x), size, (height, width), strict=True))  # fmt: skip
    part = pixels[top : top + size[0], left : left + size[1]]
    missing = [(0, max(wanted - side, 0)) for wanted, side in zip(size, part.shape[:2], strict=True)]
    part = np.pad(part, [*missing, *[(0, 0)] * (part.ndim - 2)], mode="symmetric")
    part_BCHW = to_tensor(np.ascontiguousarray(convert_depth(part, np.float32)))
    if part_BCHW.shape[1] in (2, 4):
        part_BCHW = part_BCHW[:, :-1]
    if part_BCHW.shape[1] == channels:
        return part_BCHW
    if {part_BCHW.shape[1], channels} == {1, 3}:
        return rgb_to_grey(part_BCHW) if channels == 1 else grey_to_rgb(part_BCHW)
    raise ImageError(f"the image has {part_BCHW.shape[1]} channels, and the network takes {channels}.")
