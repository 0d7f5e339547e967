"""`restore compare`: one image, or a few, through several models, and a page with a slider between any two of them.

    restore compare photo.png -m swinir_light_x4 -m photo_x4
    restore compare photo.png --all --task sr -o compared.html

Results of models that enlarge less than the others are resized after the network, so that all are of one size.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from restore.commands.arguments import add_json, add_threads, given, given_path, tile, use_threads
from restore.commands.progress import naming_progress
from restore.errors import OptionsError
from restore.terminal import open_console, tell, tell_json

if TYPE_CHECKING:
    from restore.evaluation.comparing import Comparison
    from restore.inference import Restorer

__all__ = ["add_arguments", "run"]

RUNTIME = ("device", "precision", "tile")
logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Images, models, and the page."""
    parser.add_argument("images", nargs="+", type=given, metavar="IMAGE", help="an image, a few, or a folder of them")
    parser.add_argument(
        "-m",
        "--model",
        action="append",
        default=[],
        type=given,
        help="a model: its name, address or weights file; may be given several times",
    )
    parser.add_argument("--all", action="store_true", help="every model whose weights are on this machine")
    parser.add_argument("--task", help="with --all: those of one task: sr, denoise, jpeg, derain or deblur")
    parser.add_argument("--scale", type=int, help="with --all: those that enlarge so many times")
    parser.add_argument(
        "-g", "--reference", action="append", default=[], type=given_path, help="what an image should become; in order"
    )
    parser.add_argument(
        "-o", "--output", type=given_path, metavar="FILE", help="the page; default: compare_IMAGE.html here"
    )
    add_json(parser)
    running = parser.add_argument_group("running the networks")
    running.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps, xpu or npu")
    add_threads(running)
    running.add_argument("--precision", default="auto", help="auto, fp32, bf16 or fp16")
    running.add_argument("--tile", type=tile, default="auto", help="largest tile side in px; none; auto: by memory")


def run(arguments: argparse.Namespace) -> int:
    """Write the page; 0 when every model restored every image, 1 when some did not."""
    from restore.evaluation.comparing import compare
    from restore.files import atomic_write, encoded
    from restore.jobs import find_images, refuse_to_overwrite

    use_threads(arguments)
    source = arguments.images if len(arguments.images) > 1 else arguments.images[0]
    images = [found.path for found in find_images(source)]
    if arguments.reference and len(arguments.reference) != len(images):
        raise OptionsError(f"there are {len(images)} images and {len(arguments.reference)} references: give one each.")
    page = arguments.output or Path(f"compare_{images[0].stem}.html")
    if page.suffix.lower() not in (".html", ".htm"):
        raise OptionsError(f"'{page}': the comparison is a page, which ends in .html.")
    refuse_to_overwrite([*images, *arguments.reference], [page])
    restorers = _restorers(arguments)
    with naming_progress(len(images) * len(restorers)) as show:
        comparison = compare(images, restorers, arguments.reference, on_progress=show)
    with atomic_write(page) as file:
        file.write(encoded(comparison.page(images[0].name if len(images) == 1 else f"{len(images)} images")))
    if arguments.json:
        tell_json({**comparison.as_dict(), "page": page})
    else:
        _show(comparison)
    for each in comparison.found:
        if each.error:
            tell(f"{each.image}, {each.model}: {each.error}", always=True)
    logger.info("look at %s", page)
    return 1 if any(each.error for each in comparison.found) else 0


def _restorers(arguments: argparse.Namespace) -> dict[str, Restorer]:
    """The models that are asked for, by name, each loaded once."""
    from restore.zoo import load_model

    if not arguments.all and (arguments.task or arguments.scale):
        raise OptionsError("--task and --scale choose among the models of --all: add --all, or leave them out.")
    names = list(dict.fromkeys([*arguments.model, *(_all_here(arguments) if arguments.all else ())]))
    if not names:
        raise OptionsError(
            "no model is given: name some with -m, several times, or take those that are here with --all."
        )
    return {name: load_model(name, **{key: getattr(arguments, key) for key in RUNTIME}) for name in names}


def _all_here(arguments: argparse.Namespace) -> list[str]:
    """Models for colour images whose weights are on this machine."""
    from restore.zoo import list_cards
    from restore.zoo.download import local_weights

    names = [
        card.name
        for card in list_cards()
        if card.restores
        and not card.grey
        and arguments.task in (None, card.task)
        and arguments.scale in (None, card.scale)
        and local_weights(card) is not None
    ]
    if not names:
        raise OptionsError("no model on this machine is left by --task and --scale: `restore models` shows all.")
    return names


def _show(comparison: Comparison) -> None:
    from rich.table import Table

    measured = any(each.psnr is not None for each in comparison.found)
    several = len({each.image for each in comparison.found}) > 1
    table = Table(title="" if several else comparison.found[0].image, title_justify="left")
    if several:
        table.add_column("image", overflow="fold")
    table.add_column("model", overflow="fold")
    for name in ("scale", "params [M]", "seconds", *(("PSNR", "SSIM") if measured else ())):
        table.add_column(name, justify="right", no_wrap=True)
    for each in comparison.found:
        model = comparison.models[each.model]
        values = ((each.psnr, 2), (each.ssim, 4))
        figures = ["–" if value is None else f"{value:.{digits}f}" for value, digits in values]
        table.add_row(
            *([each.image] if several else []),
            each.model,
            f"x{model['scale']}",
            f"{model['parameters'] / 1e6:.2f}",
            "failed" if each.error else f"{each.seconds:.2f}",
            *(figures if measured else []),
        )
    open_console(markup=False, emoji=False, highlight=False).print(table)
