"""`restore export`: a model as an ONNX or torch.export file that takes images of any height and width.

restore export -m swinir_light_x4 -o swinir_light_x4.onnx
"""

from __future__ import annotations

import argparse
import logging

__all__ = ["add_arguments", "run"]

logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("-m", "--model", required=True, help="name of a model, or a .pth or .safetensors file")
    parser.add_argument("-o", "--output", required=True, help="the file to write: NAME.onnx or NAME.pt2 (torch.export)")


def run(arguments: argparse.Namespace) -> int:
    """Write the file after comparing it with the model; returns the exit code."""
    from restore.inference.export import export_network
    from restore.zoo import load_network

    differences = export_network(load_network(arguments.model), arguments.output)
    for (images, height, width), difference in differences.items():
        logger.info("%d of %d x %d px: differs from the model by at most %.1e", images, height, width, difference)
    logger.info("written: %s (it takes float32 images, (B, C, H, W) in [0, 1])", arguments.output)
    return 0
