"""`restore export`: a model as an ONNX or torch.export file that takes images of any height and width.

restore export -m swinir_light_x4 -o swinir_light_x4.onnx
restore export -m fast_x4 -o fast_x4_int8.onnx --precision int8      and what that loses on Set5, in dB
"""

from __future__ import annotations

import argparse
import logging

from restore.commands.arguments import output_folder

__all__ = ["add_arguments", "run"]

logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("-m", "--model", required=True, help="name of a model, or a .pth or .safetensors file")
    parser.add_argument("-o", "--output", required=True, help="the file to write: NAME.onnx or NAME.pt2 (torch.export)")
    parser.add_argument("--precision", default="fp32", help="of an ONNX file: fp32, fp16 or int8")
    parser.add_argument(
        "--measure",
        type=output_folder,
        metavar="DIR",
        help="photographs on which the loss of fp16 and int8 is measured; default: Set5 where it is prepared, else the "
        "package's own",
    )


def run(arguments: argparse.Namespace) -> int:
    """Write the file after comparing it with the model; returns the exit code."""
    from restore.inference.export import export_network
    from restore.zoo import load_network

    network = load_network(arguments.model)
    differences = export_network(network, arguments.output, precision=arguments.precision)
    for (images, height, width), difference in differences.items():
        logger.info("%d of %d x %d px: differs from the model by at most %.1e", images, height, width, difference)
    if arguments.precision != "fp32":
        from restore.inference.engines import file_network
        from restore.inference.lower import measured_loss

        loss = measured_loss(network, file_network(arguments.output, network), arguments.measure)
        logger.info("PSNR on %s", loss)
    logger.info("written: %s (it takes float32 images, (B, C, H, W) in [0, 1])", arguments.output)
    return 0
