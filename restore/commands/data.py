"""`restore data`: check datasets before training, and prepare them: lmdb databases, sub-images, published datasets."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from restore.commands import prepare_dataset
from restore.commands.arguments import add_json, given_path, output_folder, positive
from restore.commands.progress import ProgressBar, naming_progress, summarise
from restore.errors import OutputError
from restore.files import real_path
from restore.terminal import open_console, tell, tell_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One sub-command for each job."""
    from restore.options.arguments import add_override_arguments

    jobs = parser.add_subparsers(dest="job", required=True, metavar="JOB")
    check = jobs.add_parser("check", help="read every file of every dataset of an option file, and name all bad ones")
    check.add_argument("-opt", required=True, metavar="FILE", help="option file")
    add_override_arguments(check)
    add_json(check, "a line for each problem")
    lmdb = jobs.add_parser("lmdb", help="put the images of a folder into an lmdb, in BasicSR's layout")
    _add_folders(lmdb, "the database: a new folder that ends in .lmdb", given_path)
    lmdb.add_argument("--level", type=int, default=1, choices=range(10), metavar="0-9", help="PNG compression")
    cut = jobs.add_parser("subimages", help="cut large images into overlapping pieces")
    _add_folders(cut, "folder of the pieces", output_folder)
    cut.add_argument("--size", type=positive, default=480, help="side of a piece in px; for inputs, over the scale")
    cut.add_argument("--step", type=positive, default=240, help="distance of two neighbours in px; as above")
    cut.add_argument("--threshold", type=int, default=0, help="leftover that is not worth a further piece")
    cut.add_argument("--remove", default="", metavar="x4", help="ending of file names to leave out")
    add_json(jobs.add_parser("list", help="every dataset that there is a card of"))
    prepare = jobs.add_parser("prepare", help="verify a published dataset; make inputs, sub-images, lmdb")
    prepare_dataset.add_arguments(prepare)
    for job in (check, lmdb, cut, prepare):
        job.add_argument(
            "--workers", type=positive, default=4, metavar="N", help="files that are worked on at once, in threads"
        )


def run(arguments: argparse.Namespace) -> int:
    """Run the job; returns the exit code."""
    jobs = {"check": _check, "lmdb": _lmdb, "subimages": _subimages, "list": _list, "prepare": prepare_dataset.run}
    return jobs[arguments.job](arguments)


def _add_folders(parser: argparse.ArgumentParser, output: str, kind: Callable[[str], Path]) -> None:
    parser.add_argument("-i", "--input", required=True, type=given_path, help="folder of images")
    parser.add_argument("-o", "--output", required=True, type=kind, help=output)
    parser.add_argument("--recursive", action="store_true", help="look into sub-folders as well")


def _check(arguments: argparse.Namespace) -> int:
    from restore.assembly.checking import DatasetCheck
    from restore.options.loading import load_datasets

    options = load_datasets(arguments.opt, arguments.overrides)
    check = DatasetCheck(options, num_workers=arguments.workers, progress=ProgressBar)
    problems: dict[str, None] = {}  # a set in order
    try:
        for problem in check.problems():
            problems[problem] = None
    except KeyboardInterrupt:
        tell("interrupted: what was found until then is below.", always=True)
        raise
    finally:
        if arguments.json:
            tell_json({"read": check.read, "of": check.total, "problems": list(map(str, problems))})
        for problem in () if arguments.json else problems:
            tell(f"{problem}", always=True)
        count = f"{check.read:,}" if check.read >= check.total else f"{check.read:,} of {check.total:,}"
        tell(f"{count} samples read, {len(problems)} problem{'' if len(problems) == 1 else 's'}")
    return 1 if problems else 0


def _lmdb(arguments: argparse.Namespace) -> int:
    from restore.data.storage.databases import unusable_key, write_database
    from restore.images import read_image

    paths = _images(arguments)
    failed = {path: f"'{path}': {reason}" for path in paths if (reason := unusable_key(path.stem))}
    failed |= _of_one_name({path: path.stem for path in paths}, "one key of the database")
    messages = list(dict.fromkeys(failed.values()))
    images = [(path.stem, partial(lambda path: read_image(path).pixels, path)) for path in paths if path not in failed]
    try:
        with ProgressBar("encoding", len(images)) as advance:
            count = write_database(
                images,
                arguments.output,
                level=arguments.level,
                num_workers=arguments.workers,
                on_progress=advance,
                on_error=lambda key, error: messages.append(str(error)),
            )
    finally:
        for message in sorted(messages):
            tell(message, always=True)
    tell(f"{count:,} images in {arguments.output}{f', {len(messages):,} failed' if messages else ''}")
    return 1 if messages else 0


def _subimages(arguments: argparse.Namespace) -> int:
    from restore.data.preparation.subimages import Cut, cut_each
    from restore.jobs import Job
    from restore.locks import reserved

    shape = {name: getattr(arguments, name) for name in ("size", "step", "threshold", "remove")}
    paths = _images(arguments)
    if real_path(arguments.output) == real_path(arguments.input):
        raise OutputError(f"'{arguments.output}' holds the images; choose another folder for the pieces.")
    names = {path: path.stem.removesuffix(arguments.remove) for path in paths}
    failed = _of_one_name(names, "pieces of the same names")
    console, cuts = open_console(stderr=True), [Cut(Job(path, arguments.output), error=failed[path]) for path in failed]
    try:
        with reserved(arguments.output), naming_progress(len(paths), console=console) as show:
            for cut in cut_each(
                [path for path in paths if path not in failed], arguments.output, num_workers=arguments.workers, **shape
            ):
                cuts.append(cut)
                show(cut.job.source.name, len(cuts))
    finally:
        made = f"images cut into {sum(cut.num_pieces for cut in cuts):,} pieces in {arguments.output}"
        summarise(console, cuts, made, len(paths), 0)
    return 1 if any(cut.error for cut in cuts) else 0


def _of_one_name(names: Mapping[Path, str], what: str) -> dict[Path, str]:
    """A message for each of the images that would overwrite each other: what is made of them has the name alone."""
    of_name: dict[str, list[Path]] = {}
    for path, name in names.items():
        of_name.setdefault(name, []).append(path)
    failed: dict[Path, str] = {}
    for paths in of_name.values():
        together = " and ".join(f"'{path}'" for path in paths)
        if len(paths) > 1:
            message = f"{together} would have {what}: rename one, or give each a run of its own."
            failed |= dict.fromkeys(paths, message)
    return failed


def _list(arguments: argparse.Namespace) -> int:
    from rich.table import Table

    from restore.data.preparation.cards import list_cards

    if arguments.json:
        tell_json([card.model_dump() for card in list_cards()])
        return 0
    table = Table("name", "task", "images", "licence", "source", box=None, header_style="bold")
    for card in list_cards():
        count = "" if card.num_images is None else f"{card.num_images:,}"
        table.add_row(card.name, card.task, count, card.licence, card.source or f"the package {card.package}")
    open_console(width=None if sys.stdout.isatty() else 200).print(table)
    return 0


def _images(arguments: argparse.Namespace) -> list[Path]:
    """The images of the input folder, without what an earlier run of the same command made of them."""
    from restore.data.pairs import list_folder
    from restore.jobs import without_results

    paths = list_folder("input", arguments.input, "--input", recursive=arguments.recursive)
    return without_results(paths, arguments.input, arguments.output)
