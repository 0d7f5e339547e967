"""`restore init TASK`: write a commented option file that trains on folders of one's own.

restore init sr --scale 4 --gt photos --val val_photos
restore init deblur --gt sharp --lq blurred
restore train -opt train_sr_x4.yml
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from restore.assembly.tasks import TASKS, inputs_of
from restore.errors import OptionsError, OutputError

__all__ = ["add_arguments", "run"]

COMMENTS = {"sigma_range": "on the scale of 0 to 255"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The task, the folders, and where the file goes."""
    parser.add_argument("task", choices=TASKS, metavar="TASK", help=f"what to learn: {', '.join(TASKS)}")
    parser.add_argument("--gt", metavar="DIR", required=True, help="folder of good images, the references")
    parser.add_argument("--lq", metavar="DIR", help="folder of their bad versions, named alike; else they are made")
    parser.add_argument("--val", metavar="DIR", help="folder of good images to validate on, not among those of --gt")
    parser.add_argument("--val-lq", metavar="DIR", help="folder of the bad versions of --val")
    parser.add_argument("--scale", type=int, default=4, help="enlargement, for sr")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="default: train_TASK.yml; never overwritten")


def run(arguments: argparse.Namespace) -> int:
    """Write the file and say what to do with it; returns the exit code."""
    import logging

    from restore.files import atomic_write
    from restore.options import load

    text = option_text(arguments)
    scale = f"_x{arguments.scale}" if arguments.task == "sr" else ""
    path = arguments.output or Path(f"train_{arguments.task}{scale}.yml")
    if path.exists():
        raise OutputError(f"{path} exists: remove it, or name another file with --output.")
    with atomic_write(path) as file:
        file.write(text.encode())
    try:
        load(path, is_train=True)
    except OptionsError:
        path.unlink()
        raise
    logging.getLogger("restore").info(
        "wrote %s. Look through it, then: restore data check -opt %s; restore train -opt %s", path, path, path
    )
    return 0


def option_text(arguments: argparse.Namespace) -> str:
    """The option file as text.

    Raises:
        OptionsError: folders that do not belong together, or a task that needs pairs.
    """
    made = inputs_of(arguments.task)
    if made is None and not arguments.lq:
        raise OptionsError(f"{arguments.task} learns from pairs: name the folder of the bad versions with --lq.")
    if arguments.val and bool(arguments.lq) != bool(arguments.val_lq):
        raise OptionsError("--lq and --val-lq belong together: give both, or none to have the bad versions made.")
    scale = arguments.scale if arguments.task == "sr" else 1
    upsampler = "pixelshuffledirect" if scale > 1 else ""
    shown = f"_x{scale}" if scale > 1 else ""
    pairs: dict[str, Any] = {"type": "PairedImageDataset"}
    of_train, of_val = (pairs, pairs) if arguments.lq or made is None else made
    train = _dataset("train", arguments.gt, arguments.lq, of_train)
    val = _dataset("val", arguments.val, arguments.val_lq, of_val) if arguments.val else ""
    return f"""\
# A training {TASKS[arguments.task]}, on {arguments.gt}. Every key is explained by `restore options explain FILE`.
#   restore data check -opt FILE       looks at the images first
#   restore train -opt FILE            may be interrupted; the same line with --auto_resume goes on
#   restore run -m experiments/{arguments.task}{shown}/models/net_g_latest.pth -i PHOTOS -o RESTORED
name: {arguments.task}{shown}
model_type: SwinIRModel
scale: {scale}
manual_seed: 0

datasets:
{train}    gt_size: {64 * scale if scale > 1 else 96}  # side of the crops, px; smaller ones train faster
    use_hflip: true
    use_rot: true
    batch_size_per_gpu: 8  # halve it if memory runs out
    num_worker_per_gpu: 2
{val}
network_g:
  type: SwinIR  # the light configuration
  upscale: {scale}
  in_chans: 3
  img_size: 64
  window_size: 8
  depths: [6, 6, 6, 6]
  embed_dim: 60
  num_heads: [6, 6, 6, 6]
  mlp_ratio: 2
  upsampler: "{upsampler}"

path:
  pretrain_network_g: ~  # weights to start from: a file, or a name that `restore models` lists
  strict_load_g: true

train:
  ema_decay: 0.999
  optim_g: {{type: AdamW, lr: 5.0e-4, weight_decay: 0}}
  scheduler: {{type: CosineAnnealingRestartLR, periods: [100000], eta_min: 1.0e-6}}
  total_iter: 100000
  warmup_iter: 100
  pixel_opt: {{type: CharbonnierLoss, loss_weight: 1.0}}

val:
  val_freq: 1000
  save_img: false
  metrics:
    psnr: {{type: psnr}}
    ssim: {{type: ssim}}

logger:
  print_freq: 100
  save_checkpoint_freq: 1000
"""


def _dataset(phase: str, good: str, bad: str | None, block: Mapping[str, Any]) -> str:
    """A dataset block: of pairs, or of images from which bad versions are made."""
    import yaml

    folders = {"dataroot_gt": str(good)} | ({"dataroot_lq": str(bad)} if bad else {})
    lines = [f"  {phase}:"]
    for key, value in {"name": phase, "type": block["type"], **folders, **block}.items():
        text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10**6).partition("\n")[0]
        lines.append(f"    {key}: {text}{f'  # {COMMENTS[key]}' if key in COMMENTS else ''}")
    return "\n".join(lines) + "\n"
