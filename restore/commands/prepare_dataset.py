"""`restore data prepare`: a published dataset, from what its authors publish to what a training reads.

    restore data prepare Set5 --root ~/data                                    # is everything there?
    restore data prepare Set5 --root ~/data --scales 2 3 4                     # make the low-resolution inputs
    restore data prepare DIV2K --root ~/data --scales 4 --subimages --lmdb --parts DIV2K_train_HR

Nothing is downloaded unless `--download` asks for it. What is made goes to the dataset's folder, or to `--output`.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from restore.commands.arguments import positive
from restore.commands.progress import ProgressBar
from restore.files import expanded
from restore.locks import reserved
from restore.terminal import tell

if TYPE_CHECKING:
    from restore.data.preparation.cards import Card
    from restore.data.preparation.holdings import Holding

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The job's options."""
    parser.add_argument("name", metavar="NAME", help="a dataset of `restore data list`, or the path of a card")
    parser.add_argument("--root", type=Path, default=Path("datasets"), help="folder that holds datasets")
    parser.add_argument("-o", "--output", type=Path, help="where to put what is made; by default the dataset's folder")
    parser.add_argument("--parts", nargs="+", default=[], metavar="PART", help="only these parts of the dataset")
    parser.add_argument("--scales", nargs="+", type=int, default=[], metavar="N", help="make inputs reduced N times")
    parser.add_argument("--subimages", action="store_true", help="cut the images into overlapping pieces")
    parser.add_argument("--size", type=positive, default=480, help="side of a piece of a reference in pixels")
    parser.add_argument("--step", type=positive, default=240, help="distance of two neighbours")
    parser.add_argument("--lmdb", action="store_true", help="put the images, or their pieces, into lmdb databases")
    parser.add_argument("--partial", action="store_true", help="make what can be made of an incomplete dataset")
    parser.add_argument("--quick", action="store_true", help="read the headers of images alone")
    parser.add_argument("--download", action="store_true", help="get missing parts whose checksum is known")


def run(arguments: argparse.Namespace) -> int:
    """Verify, then make; 0 when the dataset is complete and everything is made, 1 when something is missing."""
    from restore.data.preparation.cards import read_card
    from restore.data.preparation.holdings import dataset_folder

    card = _chosen(read_card(arguments.name), arguments.parts)
    _check_wishes(card, arguments)
    if card.package:
        return _prepare_package(card, arguments)
    root = expanded(arguments.root)
    if arguments.download:
        root.mkdir(parents=True, exist_ok=True)
        _download(card, root, arguments.workers)
    holdings = _verify(card, root, decode=not arguments.quick, num_workers=arguments.workers)
    complete = not any(holding.problems for holding in holdings)
    _report(card, holdings)
    if complete or arguments.partial:
        output = expanded(arguments.output or dataset_folder(card, root))
        with reserved(output):
            for holding in holdings:
                if holding.part.role in ("references", "inputs"):
                    _make(holding.part.name, holding.part.role, holding.usable, output, arguments)
    elif arguments.scales or arguments.subimages or arguments.lmdb:
        tell("nothing was made: complete the dataset, or add --partial to use what is there.", always=True)
    return 0 if complete else 1


def _chosen(card: Card, parts: list[str]) -> Card:
    """The card with these parts alone."""
    from restore.errors import OptionsError, nearest

    known = {part.name: part for part in card.parts}
    for name in parts:
        if name not in known:
            have = f"It has: {', '.join(known)}." if known else "It has no parts."
            raise OptionsError(f"'{card.name}' has no part '{name}'.{nearest(name, known)} {have}")
    return card.model_copy(update={"parts": [known[name] for name in parts]}) if parts else card


def _check_wishes(card: Card, arguments: argparse.Namespace) -> None:
    from restore.data.preparation.steps import Cutting
    from restore.errors import OptionsError

    if any(scale < 2 for scale in arguments.scales):
        raise OptionsError("--scales takes whole numbers of at least 2, such as --scales 2 3 4.")
    if arguments.scales and card.inputs != "bicubic":
        raise OptionsError(f"the inputs of '{card.name}' are not made by reduction: {card.inputs}. Leave out --scales.")
    if arguments.subimages:
        Cutting(arguments.size, arguments.step, tuple(arguments.scales))
    if (arguments.subimages or arguments.lmdb) and any(part.role == "distorted" for part in card.parts):
        raise OptionsError(f"'{card.name}' is scored image by image: leave out --subimages and --lmdb.")


def _download(card: Card, root: Path, num_workers: int) -> None:
    """Download the missing parts that have an address."""
    from restore.data.preparation.archives import download_part
    from restore.data.preparation.holdings import dataset_folder, take_stock

    folder = dataset_folder(card, root)
    for holding in take_stock(card, root, decode=False, num_workers=num_workers):
        if holding.missing and holding.part.downloadable:
            bar = ProgressBar(f"downloading {holding.part.archive}", None)
            with bar:
                download_part(holding.part, folder, on_progress=bar.show)


def _verify(card: Card, root: Path, *, decode: bool, num_workers: int) -> list[Holding]:
    from restore.data.preparation.holdings import take_stock

    bar = ProgressBar(f"reading {card.name}", None)
    with bar as advance:
        return take_stock(card, root, decode=decode, num_workers=num_workers, on_start=bar.resize, on_progress=advance)


def _report(card: Card, holdings: list[Holding]) -> None:
    """What was found on standard output, what is wrong on standard error."""
    for holding in holdings:
        expected = f" of {holding.part.expected_count:,}" if holding.part.expected_count else ""
        where = f" in {holding.folder}" if holding.folder else " (optional)" if holding.part.optional else ""
        tell(f"{holding.part.name}: {len(holding.files):,}{expected} files{where}", out=True)
    problems = [f"{holding.part.name} {problem}" for holding in holdings for problem in holding.problems]
    for problem in problems:
        tell(f"{card.name}: {problem}", always=True)
    if problems:
        automatic = [part.part.name for part in holdings if part.missing and part.part.downloadable]
        tell(f"Get {card.name} from {card.source} (licence: {card.licence}).")
        tell(f"Verified of this card: {card.verified or 'nothing; its facts are those of the literature'}.")
        if automatic:
            tell(f"--download gets {', '.join(automatic)}.")
    else:
        tell(f"{card.name} is complete. Licence: {card.licence}. Inputs: {card.inputs}.", out=True)


def _prepare_package(card: Card, arguments: argparse.Namespace) -> int:
    """A card whose images a package carries: they are always complete."""
    from restore.data.preparation.cards import prepare

    folder = prepare(card)
    files = {image.title: folder / f"{image.title}.png" for image in card.images}
    tell(f"{card.name} is complete: {len(files)} files in {folder}", out=True)
    output = expanded(arguments.output or arguments.root / card.name)
    with reserved(output):
        _make("HR", "references", files, output, arguments)
    return 0


def _make(part: str, role: str, files: dict[str, Path], output: Path, arguments: argparse.Namespace) -> None:
    """Everything that is asked for of one part."""
    from restore.data.preparation.steps import Cutting, cut_images, make_inputs, write_lmdb

    cutting = Cutting(arguments.size, arguments.step, tuple(arguments.scales)) if arguments.subimages else None
    workers = arguments.workers
    if not files:
        return
    for scale, folder in _destinations(part, role, output, arguments.scales):
        made = files
        if scale > 1:
            with ProgressBar(f"reducing {part} {scale} times", len(files)) as advance:
                made = make_inputs(files, folder, scale, num_workers=workers, on_progress=advance)
            tell(f"{len(made):,} inputs in {folder}", out=True)
        if cutting:
            folder = folder.with_name(f"{folder.name}_sub")
            with ProgressBar(f"cutting {folder.name}", len(made)) as advance:
                made = cut_images(made, folder, **cutting.settings(scale), num_workers=workers, on_progress=advance)
            tell(f"{len(made):,} pieces in {folder}", out=True)
        if arguments.lmdb:
            path = output / ("_".join(folder.relative_to(output).parts) + ".lmdb")
            with ProgressBar(f"writing {path.name}", len(made)) as advance:
                written = write_lmdb(made, path, num_workers=workers, on_progress=advance)
            tell(f"{len(made):,} images in {path}{'' if written else ' (there before)'}", out=True)


def _destinations(part: str, role: str, output: Path, scales: list[int]) -> Iterator[tuple[int, Path]]:
    """Scales and folders: of the images themselves, and of the inputs made from references."""
    yield 1, output / part
    if role == "references":
        for scale in sorted(set(scales)):
            yield scale, output / f"{part.removesuffix('HR')}LR_bicubic" / f"X{scale}"
