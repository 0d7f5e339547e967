"""`restore data`: check datasets before training, and prepare them: lmdb databases, sub-images, published datasets."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from restore.commands import prepare_dataset
from restore.commands.arguments import given_path, positive
from restore.commands.progress import ProgressBar
from restore.errors import OutputError

if TYPE_CHECKING:
    from restore.options import Options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One sub-command for each job."""
    from restore.options.arguments import add_override_arguments

    jobs = parser.add_subparsers(dest="job", required=True, metavar="JOB")
    check = jobs.add_parser("check", help="read every file of every dataset of an option file, and name all bad ones")
    check.add_argument("-opt", required=True, metavar="FILE", help="option file")
    add_override_arguments(check)
    lmdb = jobs.add_parser("lmdb", help="put the images of a folder into an lmdb, in BasicSR's layout")
    _add_folders(lmdb, "the database: a new folder that ends in .lmdb")
    lmdb.add_argument("--level", type=int, default=1, choices=range(10), metavar="0-9", help="PNG compression")
    cut = jobs.add_parser("subimages", help="cut large images into overlapping pieces")
    _add_folders(cut, "folder of the pieces")
    cut.add_argument("--size", type=positive, default=480, help="side of a piece in px; for inputs, over the scale")
    cut.add_argument("--step", type=positive, default=240, help="distance of two neighbours in px; as above")
    cut.add_argument("--threshold", type=int, default=0, help="leftover that is not worth a further piece")
    cut.add_argument("--remove", default="", metavar="x4", help="ending of file names to leave out")
    jobs.add_parser("list", help="every dataset that there is a card of")
    prepare = jobs.add_parser("prepare", help="verify a published dataset; make inputs, sub-images, lmdb")
    prepare_dataset.add_arguments(prepare)
    for job in (check, lmdb, cut, prepare):
        job.add_argument("--workers", type=positive, default=4, help="threads")


def run(arguments: argparse.Namespace) -> int:
    """Run the job; returns the exit code."""
    jobs = {"check": _check, "lmdb": _lmdb, "subimages": _subimages, "list": _list, "prepare": prepare_dataset.run}
    return jobs[arguments.job](arguments)


def _add_folders(parser: argparse.ArgumentParser, output: str) -> None:
    parser.add_argument("-i", "--input", required=True, type=given_path, help="folder of images")
    parser.add_argument("-o", "--output", required=True, type=given_path, help=output)
    parser.add_argument("--recursive", action="store_true", help="look into sub-folders as well")


def _check(arguments: argparse.Namespace) -> int:
    from restore.options import load

    options = load(arguments.opt, arguments.overrides, check_components=False)
    problems: dict[str, None] = {}  # a set in order
    count = _Count()
    try:
        for problem in _problems(options, arguments.workers, count):
            problems[problem] = None
    except KeyboardInterrupt:
        sys.stderr.write("interrupted: what was found until then is below.\n")
        raise
    finally:
        for problem in problems:
            sys.stderr.write(f"{problem}\n")
        sys.stderr.write(f"{count} samples read, {len(problems)} problem{'' if len(problems) == 1 else 's'}\n")
    return 1 if problems else 0


@dataclass
class _Count:
    """How many samples were read, of how many."""

    total: int = 0
    read: list[None] = field(default_factory=list)  # appending is safe in threads, counting is not

    def __str__(self) -> str:
        return f"{len(self.read):,}" if len(self.read) >= self.total else f"{len(self.read):,} of {self.total:,}"


def _problems(options: Options, num_workers: int, count: _Count) -> Iterator[str]:
    """What is wrong with the datasets of an option file."""
    from restore.data.complaints import gathering
    from restore.data.preparation.checking import check_dataset, check_files
    from restore.errors import RestoreError
    from restore.registry import DATASETS

    parts = []
    for key, block in options.datasets.items():
        with gathering() as gathered:
            try:
                scale = block.scale if block.task is None else _scale_of_task(options, key)
                dataset = DATASETS.build(block.block, path=f"datasets.{key}", name=block.name, scale=scale)
                found = getattr(dataset, "datasets", {key: dataset}).values()  # one for each task, if there are several
                parts += [(key, block, part) for part in found]
            except RestoreError as error:
                gathered.messages.append(str(error))
        yield from gathered.messages
        yield from check_files(gathered.files, num_workers=num_workers)
    count.total = sum(len(part) for _, _, part in parts)
    for key, block, part in parts:
        with ProgressBar(f"{key}: {part.name}", len(part)) as advance:

            def on_progress(advance: Callable[..., None] = advance) -> None:
                count.read.append(None)
                advance()

            yield from check_dataset(
                part,
                training=block.phase == "train",
                patch_px=max(block.gt_sizes) if block.gt_sizes else None,
                num_workers=num_workers,
                on_progress=on_progress,
            )


def _scale_of_task(options: Options, key: str) -> int:
    """How much the network enlarges in the task that a dataset is for."""
    import torch

    from restore.registry import NETWORKS
    from restore.training.objectives.multitask import validated_task

    with torch.device("meta"):
        network = NETWORKS.build(options.network_g, path="network_g")
    return network.task_spec(validated_task(network, options, key)).scale


def _lmdb(arguments: argparse.Namespace) -> int:
    from restore.data.storage.databases import write_database
    from restore.images import read_image

    paths = _images(arguments)
    images = [(path.stem, partial(lambda path: read_image(path).pixels, path)) for path in paths]
    with ProgressBar("encoding", len(images)) as advance:
        count = write_database(
            images, arguments.output, level=arguments.level, num_workers=arguments.workers, on_progress=advance
        )
    sys.stderr.write(f"{count:,} images in {arguments.output}\n")
    return 0


def _subimages(arguments: argparse.Namespace) -> int:
    from restore.data.preparation.subimages import cut_image

    shape = {name: getattr(arguments, name) for name in ("size", "step", "threshold", "remove")}
    paths = _images(arguments)
    if arguments.output.resolve() == arguments.input.resolve():
        raise OutputError(f"'{arguments.output}' holds the images; choose another folder for the pieces.")
    _refuse_same_names(paths, arguments.remove)
    count = 0
    with ProgressBar("cutting", len(paths)) as advance, ThreadPoolExecutor(arguments.workers) as pool:
        for pieces in pool.map(lambda path: cut_image(path, arguments.output, **shape), paths):
            count += pieces
            advance()
    sys.stderr.write(f"{count:,} pieces of {len(paths):,} images in {arguments.output}\n")
    return 0


def _refuse_same_names(paths: Sequence[Path], remove: str) -> None:
    """Pieces lie in one folder: images of one name would overwrite each other's."""
    from restore.errors import DataError

    first: dict[str, Path] = {}
    for path in paths:
        other = first.setdefault(path.stem.removesuffix(remove), path)
        if other is not path:
            raise DataError(
                f"'{other}' and '{path}' would have pieces of the same names: rename one, or cut them into two folders."
            )


def _list(arguments: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.table import Table

    from restore.data.preparation.cards import list_cards

    table = Table("name", "task", "images", "licence", "source", box=None, header_style="bold")
    for card in list_cards():
        count = "" if card.num_images is None else f"{card.num_images:,}"
        table.add_row(card.name, card.task, count, card.licence, card.source or f"the package {card.package}")
    Console(width=None if sys.stdout.isatty() else 200).print(table)
    return 0


def _images(arguments: argparse.Namespace) -> list[Path]:
    """The images of the input folder, without what an earlier run of the same command made of them."""
    from restore.data.pairs import list_folder
    from restore.jobs import without_results

    paths = list_folder("input", arguments.input, "--input", recursive=arguments.recursive)
    return without_results(paths, arguments.input, arguments.output)
