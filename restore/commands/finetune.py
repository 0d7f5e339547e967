"""`restore finetune`: train a model further on photographs of your own, and see what it brought.

restore finetune -m swinir_light_x4 -i photos -o tuned
restore finetune -m swinir_light_color_dn -i photos -o tuned --task denoise --sigma 30
restore run -m tuned/experiments/finetune/models/net_g_latest.pth -i more -o restored
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from restore.commands.arguments import add_json, add_threads, given_path, positive, use_threads
from restore.terminal import tell_json

__all__ = ["add_arguments", "run"]

logger = logging.getLogger("restore")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Model, photographs, task and length."""
    parser.add_argument("-m", "--model", required=True, help="what to start from: a model's name or weights file")
    parser.add_argument("-i", "--input", type=given_path, required=True, help="folder of good photographs")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of the run; the same one goes on")
    parser.add_argument("--lq", type=given_path, help="folder of their bad versions, named alike; else they are made")
    parser.add_argument("--task", choices=("sr", "denoise", "jpeg"), help="how bad versions are made; sr by itself")
    parser.add_argument("--iterations", type=positive, default=2000, help="how long; 2,000 show what it brings")
    parser.add_argument("--lr", type=float, default=1e-4, help="learning rate at the start")
    parser.add_argument("--sigma", type=float, default=50.0, help="largest level of noise, 0 to 255, for denoise")
    add_threads(parser)
    add_json(parser, "the figures as lines")
    parser.add_argument("--jpeg-quality", type=positive, default=10, help="lowest quality, for jpeg")


def run(arguments: argparse.Namespace) -> int:
    """Train, and print the figures of the held-out images before and after."""
    from restore.assembly.finetuning import FineTuning, finetune

    order = FineTuning(
        model=arguments.model,
        photos=arguments.input,
        folder=arguments.output,
        task=arguments.task,
        bad=arguments.lq,
        iterations=arguments.iterations,
        rate=arguments.lr,
        sigma=arguments.sigma,
        quality=arguments.jpeg_quality,
    )
    use_threads(arguments)
    code, measured = finetune(order)
    if arguments.json:
        tell_json(measured)
    for name, figures in measured.items():
        logger.info("%-6s PSNR %.2f dB, SSIM %.4f on the held-out images", name, figures["psnr"], figures["ssim"])
    return code
