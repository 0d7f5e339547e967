"""`restore score`: measure images that are there already, against references or by themselves.

    restore score -r restored -g originals --metrics psnr,ssim,lpips --protocol swinir_sr
    restore score -r photographs --metrics niqe,brisque

Files belong together by name: `baby_x4.png` or `baby_SwinIR.png` to `baby.png`. The values, a page to look at and the
record that lets the next run skip unchanged files go to `results/scores/NAME`.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from restore.commands.arguments import add_json, output_folder, positive
from restore.errors import OptionsError
from restore.evaluation.processes import stay_single_threaded
from restore.files import expanded
from restore.terminal import open_console, tell_json

__all__ = ["add_arguments", "run"]

logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("-r", "--restored", metavar="PATH", help="folder of the images to judge, or one image")
    parser.add_argument("-g", "--reference", metavar="PATH", help="folder of what they should be, or one image")
    parser.add_argument("--metrics", help="names with commas between; default: psnr,ssim, or niqe without references")
    parser.add_argument("--protocol", help="channel, border and rounding of published figures; see --protocols")
    parser.add_argument("--protocols", action="store_true", help="list the protocols and stop")
    parser.add_argument(
        "--scale", type=positive, help="enlargement, for the protocol's border; default: from the names"
    )
    parser.add_argument(
        "-o", "--output", type=output_folder, metavar="DIR", help="folder of the results; default: results/scores/NAME"
    )
    parser.add_argument("--recursive", action="store_true", help="go into sub-folders")
    parser.add_argument("--fresh", action="store_true", help="measure unchanged files again")
    parser.add_argument(
        "--map",
        nargs="?",
        const="",
        metavar="MODEL",
        help="write where each image is bad, in red, to maps/: by its reference, or by what a quality model says",
    )
    parser.add_argument(
        "--defects", action="store_true", help="also box scratches, dust, hot pixels, text and blocks: defects.html"
    )
    parser.add_argument("--device", default="cpu", help="where metrics are computed: cpu, cuda, cuda:N, mps or auto")
    parser.add_argument(
        "--workers",
        type=positive,
        metavar="N",
        help="images that are worked on at once, each in a process; default: by cores and number of images",
    )
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Score; 0 when everything was measured, 1 when files are unmatched or something could not be measured."""
    if arguments.protocols:
        _show_protocols(as_json=arguments.json)
        return 0
    if arguments.restored is None:
        raise OptionsError("nothing to score: give a folder with -r (and its references with -g).")
    stay_single_threaded()
    from restore.evaluation.scoring import match, score, settings
    from restore.evaluation.scoring.pairs import scale_in_names
    from restore.evaluation.scoring.terminal import show

    has_reference = arguments.reference is not None
    metrics = arguments.metrics or ("psnr,ssim" if has_reference else "niqe")
    matching = match(arguments.restored, arguments.reference, recursive=arguments.recursive)
    chosen = settings(
        [name.strip() for name in metrics.split(",") if name.strip()],
        arguments.protocol,
        scale=arguments.scale or scale_in_names(matching),
        has_reference=has_reference,
    )
    name = expanded(arguments.restored).resolve().name
    output = Path(arguments.output or Path("results") / "scores" / name)
    device, maps = _device(arguments.device), None
    if arguments.map is not None:
        from restore.evaluation.scoring.maps import Maps

        maps = Maps(output / "maps", arguments.map or None, has_reference=has_reference, device=device)
    scores = score(
        matching,
        chosen,
        output,
        name=name,
        device=device,
        num_workers=arguments.workers,
        fresh=arguments.fresh,
        progress=True,
        maps=maps,
    )
    tell_json(scores.as_dict()) if arguments.json else show(scores)
    logger.info("look at %s", output / "report.html")
    if arguments.defects:
        from restore.commands.defects import search_images

        search_images({image.name: Path(image.restored) for image in scores.images}, output, title=name, device=device)
    return 0 if scores.clean else 1


def _device(name: str) -> str:
    if name == "cpu":
        return name
    from restore.inference.precision import resolve_device

    return str(resolve_device(name))


def _show_protocols(*, as_json: bool) -> None:
    from rich import box
    from rich.table import Table

    from restore.metrics import PROTOCOLS

    if as_json:
        tell_json({name: {"compares": str(each), "source": each.source} for name, each in PROTOCOLS.items()})
        return

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("protocol", "PSNR and SSIM compare", "as in"):
        table.add_column(column, overflow="fold", no_wrap=column == "protocol")
    for name, protocol in PROTOCOLS.items():
        table.add_row(name, str(protocol), protocol.source)
    console = open_console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = 130
    console.print(table)
