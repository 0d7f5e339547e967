"""`restore defects`: box scratches, dust, hot pixels, stamped text and JPEG blocks in photographs and scans.

    restore defects -i photos
    restore defects -i scan.tif -o found --kinds scratch,dust --min-score 0.5
    restore defects -i photos -m experiments/defects_small/models/net_g_latest.pth

A page with the boxes drawn, a table and JSON go to `results/defects/NAME`.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from restore.commands.arguments import add_json, given_path, output_folder
from restore.errors import OptionsError, Problem, nearest

if TYPE_CHECKING:
    from restore.evaluation.defects import Searched

__all__ = ["add_arguments", "run", "search_images"]

logger = logging.getLogger(__name__)

MODEL = "defects_small"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to search, for what, and where the results go."""
    parser.add_argument("-i", "--input", type=given_path, required=True, help="a photograph, or a folder of them")
    parser.add_argument(
        "-o", "--output", type=output_folder, metavar="DIR", help="folder of the results; default: results/defects/NAME"
    )
    parser.add_argument("-m", "--model", default=MODEL, help="a shipped detector, or the weights file of a training")
    parser.add_argument("--kinds", metavar="NAMES", help="which defects, with commas between; default: all it knows")
    parser.add_argument(
        "--min-score", type=_share, default=0.3, metavar="P", help="how sure a finding is at least, 0 to 1"
    )
    parser.add_argument("--recursive", action="store_true", help="go into sub-folders")
    parser.add_argument("--device", default="cpu", help="where it is computed: cpu, cuda, cuda:N, mps or auto")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Search; 0 when every image was, 1 when some could not be read."""
    from restore.jobs import find_images
    from restore.terminal import tell_json

    output = Path(arguments.output or Path("results") / "defects" / arguments.input.resolve().name)
    found = find_images(arguments.input, output, recursive=arguments.recursive)
    searched = search_images(
        {each.name.as_posix(): each.path for each in found},
        output,
        title=arguments.input.resolve().name,
        model=arguments.model,
        kinds=arguments.kinds,
        min_score=arguments.min_score,
        device=arguments.device,
    )
    if arguments.json:
        tell_json(searched.as_dict())
    return 1 if searched.failed else 0


def search_images(
    images: dict[str, Path],
    output: Path,
    *,
    title: str,
    model: str | None = None,
    kinds: str | None = None,
    min_score: float = 0.3,
    device: str = "cpu",
) -> Searched:
    """Search images by name with a detector, write the page into `output`, and say in a few lines what was found."""
    from restore.detection import load_detector
    from restore.evaluation.defects import search
    from restore.inference.precision import resolve_device
    from restore.reports.format import counted_images

    detector = load_detector(model or MODEL, device="cpu" if device == "cpu" else str(resolve_device(device)))
    wanted = None if kinds is None else [name.strip() for name in kinds.split(",") if name.strip()]
    for name in wanted or []:
        if name not in detector.kinds:
            message = f"'{name}' is not known.{nearest(name, detector.kinds)} Known: {', '.join(detector.kinds)}."
            raise OptionsError([Problem("--kinds", message)])
    searched = search(detector, images, output, title=title, min_score=min_score, kinds=wanted, progress=True)
    for name in searched.ranked:
        counts = ", ".join(f"{number} {kind}" for kind, number in searched.counts(name).items() if number)
        logger.info("%s: %s", name, counts or "nothing found")
    for name, reason in searched.failed.items():
        logger.error("%s: %s", name, reason)
    logger.info("%s; look at %s", counted_images(len(searched.findings)), output / "defects.html")
    return searched


def _share(text: str) -> float:
    """A number from 0 to 1."""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number from 0 to 1")
    return number
