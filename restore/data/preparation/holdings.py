"""What of a dataset lies on disk: its card held against the files below a folder, and every difference named."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from restore.data.preparation.cards import Card, Part, plain_name
from restore.errors import DataError, ImageError
from restore.images import read_image, read_size, readable_suffixes

__all__ = ["Holding", "dataset_folder", "take_stock"]

_SHOWN = 8  # names in one message; the rest are counted


@dataclass
class Holding:
    """What was found of one part.

    Attributes:
        part: what the card says.
        folder: where its files lie; None where none were found.
        files: the files by name, in the order of their paths.
        damaged: names of the files that cannot be read.
        problems: every difference from the card, each a sentence without its subject.
    """

    part: Part
    folder: Path | None = None
    files: dict[str, Path] = field(default_factory=dict)
    damaged: set[str] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)

    @property
    def usable(self) -> dict[str, Path]:
        """`files` without the damaged ones."""
        return {name: path for name, path in self.files.items() if name not in self.damaged}

    @property
    def missing(self) -> bool:
        """Whether a part that is needed is not there at all."""
        return self.folder is None and not self.part.optional


def dataset_folder(card: Card, root: Path) -> Path:
    """The folder of the dataset: in `root` under one of its names, `root` itself if so called, else `root/NAME`.

    Raises:
        DataError: there is no folder `root`.
    """
    if not root.is_dir():
        raise DataError(f"'{root}' is not a folder. Name the one that holds your datasets with --root.")
    names = {plain_name(name) for name in (card.name, *card.folders)}
    inside = sorted(path for path in root.iterdir() if path.is_dir() and plain_name(path.name) in names)
    if inside:
        return inside[0]
    return root if plain_name(root.absolute().name) in names else root / card.name


def take_stock(
    card: Card,
    root: Path,
    *,
    decode: bool = True,
    num_workers: int = 4,
    on_start: Callable[[int], None] = lambda count: None,
    on_progress: Callable[[], None] = lambda: None,
) -> list[Holding]:
    """What of each part is on disk, and what is wrong with it.

    Args:
        card: the dataset.
        root: folder that holds datasets.
        decode: read every image whole; otherwise the header of each.
        num_workers: threads that read.
        on_start: called with the number of images that will be read.
        on_progress: called after each of them.

    Raises:
        DataError: there is no folder `root`.
    """
    folder = dataset_folder(card, root)
    holdings = [_find_part(part, folder, root) for part in card.parts]
    by_name = {holding.part.name: holding for holding in holdings}
    on_start(sum(len(holding.files) for holding in holdings if holding.part.role != "other"))
    for holding in holdings:
        if holding.folder is None:
            continue
        holding.problems += _count_problems(holding)
        if references := by_name.get(holding.part.pairs_with):
            holding.problems += _pair_problems(holding, references)
        if holding.part.role != "other":
            holding.problems += _image_problems(holding, decode, num_workers, on_progress)
    return holdings


def _find_part(part: Part, folder: Path, root: Path) -> Holding:
    for inner in part.folders:
        found, twice = _matching(part, folder / inner)
        if found:
            return Holding(part, folder / inner, found, problems=twice)
    if part.optional:
        return Holding(part)
    packed = [place / part.archive for place in (root, folder) if part.archive and (place / part.archive).is_file()]
    if packed:
        return Holding(part, problems=[f"is still packed: unpack {packed[0]} in {folder}"])
    places = " or ".join(str(folder / inner / part.files) for inner in part.folders)
    published = f" (published as {part.archive})" if part.archive else ""
    count = f"{part.expected_count:,} files" if part.expected_count else "its files"
    return Holding(part, problems=[f"is missing: {count} at {places}{published}"])


def _matching(part: Part, folder: Path) -> tuple[dict[str, Path], list[str]]:
    """The files of a part by name, and a complaint for each name that comes twice."""
    pattern = re.compile("".join(map(_as_expression, re.split(r"(\*|\?+)", part.files))), re.IGNORECASE)
    files: dict[str, Path] = {}
    twice = []
    for path in sorted(folder.glob("/".join("*" for _ in part.files.split("/")))):
        relative = path.relative_to(folder)
        match = pattern.fullmatch(relative.as_posix())
        image = part.role == "other" or path.suffix.lower() in readable_suffixes()
        if not match or not image or relative.name.startswith(".") or not path.is_file():
            continue
        name = _name(match.groups(), path)
        if name in files:
            twice.append(f"has two files called '{name}': {files[name]} and {path}")
        files.setdefault(name, path)
    return files, twice


def _as_expression(piece: str) -> str:
    """A piece of a pattern, which is a wildcard or plain text, as a regular expression."""
    if piece == "*":
        return "([^/]*)"
    return f"([^/]{{{len(piece)}}})" if piece.startswith("?") else re.escape(piece)


def _name(groups: tuple[str, ...], path: Path) -> str:
    """What the wildcards stood for; a lone `*` at the end took the ending of the file as well."""
    joined = "_".join(groups)
    return joined.removesuffix(path.suffix) if groups else path.stem


def _count_problems(holding: Holding) -> Iterator[str]:
    part = holding.part
    if expected := part.expected_names:
        if absent := [name for name in expected if name not in holding.files]:
            yield f"lacks {len(absent):,} of {len(expected):,} files in {holding.folder}: {_listed(absent)}"
        if extra := sorted(set(holding.files) - set(expected)):
            yield f"has {len(extra):,} files that do not belong in {holding.folder}: {_listed(extra)}"
    elif part.count and len(holding.files) != part.count:
        yield f"has {len(holding.files):,} files in {holding.folder}, and should have {part.count:,}"


def _pair_problems(inputs: Holding, references: Holding) -> Iterator[str]:
    if references.folder is None:
        return
    if alone := sorted(set(inputs.files) - set(references.files)):
        yield f"has {len(alone):,} files without a counterpart in {references.folder}: {_listed(alone)}"
    if alone := sorted(set(references.files) - set(inputs.files)):
        yield f"lacks the counterparts of {len(alone):,} files in {references.folder}: {_listed(alone)}"


def _image_problems(holding: Holding, decode: bool, num_workers: int, on_progress: Callable[[], None]) -> Iterator[str]:
    def problem(name: str) -> str | None:
        path = holding.files[name]
        try:
            height, width = read_image(path).pixels.shape[:2] if decode else read_size(path)
        except ImageError as error:
            holding.damaged.add(name)
            return f"has an unreadable file: {error}"
        finally:
            on_progress()
        wanted = holding.part.size_px
        if wanted and sorted(wanted) != sorted((width, height)):
            return f"has an image of another size: {path} is {width}x{height}, not {wanted[0]}x{wanted[1]}"
        return None

    with ThreadPoolExecutor(num_workers) as pool:
        yield from filter(None, pool.map(problem, holding.files))


def _listed(names: list[str]) -> str:
    rest = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {rest:,} more" if rest > 0 else "")
