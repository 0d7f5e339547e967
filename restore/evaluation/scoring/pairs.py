"""Which restored file belongs to which reference, by name.

A restored image is called like its reference, or like it with an ending that says where it comes from: `baby_x4`,
`babyx4`, `baby_SwinIR`, `baby_x4_001_run`. An ending of digits alone (`frame_2` beside `frame`) is another image, and
the longest reference that fits is the one that is meant. Extensions do not matter.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from restore.data.pairs import Pair, list_folder
from restore.errors import DataError
from restore.files import expanded

__all__ = ["Matching", "match", "scale_in_names"]

_ENDING = re.compile(r"(?!_\d+$)_.+|x\d+(_.+)?")
_SCALE = re.compile(r"(?<![a-z0-9])x([1-9]\d?)(?![a-z0-9])|(?<=[0-9a-z])x([1-9]\d?)$", re.IGNORECASE)


@dataclass
class Matching:
    """What was found: pairs, and files that stay alone.

    Attributes:
        pairs: restored images (`lq`) with their references (`gt`), if there are any.
        unmatched: what is wrong with a file that could not be paired, by path.
    """

    pairs: list[Pair] = field(default_factory=list)
    unmatched: dict[Path, str] = field(default_factory=dict)


def match(restored: str | Path, references: str | Path | None = None, *, recursive: bool = False) -> Matching:
    """Pair the images of two folders, or two files; without references every image stands by itself.

    Args:
        restored: folder of the images to judge, or one image.
        references: folder of what they should be, or one image.
        recursive: look into sub-folders as well; a reference lies in the sub-folder of the same name.

    Raises:
        DataError: a folder is missing or holds no image, or not a single image has a reference.
    """
    restored_root = expanded(restored)
    if references is None:
        files = _files(restored_root, "restored", "--restored", recursive)
        return Matching([Pair(name.as_posix(), lq=path) for name, path in files.items()])
    reference_root = expanded(references)
    if restored_root.is_file() and reference_root.is_file():
        return Matching([Pair(restored_root.name, gt=reference_root, lq=restored_root)])
    found = _matching(
        _files(restored_root, "restored", "--restored", recursive),
        _files(reference_root, "reference", "--reference", recursive),
    )
    if not found.pairs:
        raise DataError(
            f"no image of {restored_root} has a reference in {reference_root}. "
            f"{next(iter(found.unmatched))}: {next(iter(found.unmatched.values()))}. A restored image is called like "
            "its reference, or like it with an ending such as x4, _x4 or _NAME."
        )
    return found


def scale_in_names(matching: Matching) -> int | None:
    """The enlargement that the names of the restored files (or of their folders) agree on: 4 for `baby_x4.png`."""
    for names in ([pair.lq.stem for pair in matching.pairs], {str(pair.lq.parent) for pair in matching.pairs}):
        scales = {_scale(name) for name in names}
        if len(scales) == 1 and None not in scales:
            return scales.pop()
    return None


def _scale(name: str) -> int | None:
    found = _SCALE.findall(name)
    return int(next(filter(None, found[-1]))) if found else None


def _files(root: Path, kind: str, option: str, recursive: bool) -> dict[Path, Path]:
    """Files by their names below the root."""
    if root.is_file():
        return {Path(root.name): root}
    return {path.relative_to(root): path for path in list_folder(kind, root, option, recursive=recursive)}


def _matching(restored: Mapping[Path, Path], references: Mapping[Path, Path]) -> Matching:
    by_stem: dict[Path, list[Path]] = defaultdict(list)
    for name in references:
        by_stem[name.with_suffix("")].append(name)
    claims: dict[Path, list[Path]] = defaultdict(list)
    found = Matching()
    for name, path in restored.items():
        stem = _reference_of(name.with_suffix(""), by_stem)
        if stem is None:
            found.unmatched[path] = "no reference has this name"
        else:
            claims[_same_extension(by_stem[stem], name)].append(name)
    for reference, names in claims.items():
        exact = [name for name in names if name.stem == reference.stem]
        chosen = _same_extension(exact, reference) if exact else names[0] if len(names) == 1 else None
        for name in names:
            if name != chosen:
                others = ", ".join(str(other) for other in names if other != name)
                found.unmatched[restored[name]] = f"{others} has the same reference, {references[reference]}"
        if chosen:
            found.pairs.append(Pair(chosen.as_posix(), gt=references[reference], lq=restored[chosen]))
    for reference, path in references.items():
        if reference not in claims:
            found.unmatched[path] = "no restored image has this name"
    found.pairs.sort(key=lambda pair: pair.lq)
    return found


def _reference_of(stem: Path, references: Container[Path]) -> Path | None:
    """The reference of the same name, else the longest one that the name begins with before an ending."""
    if stem in references:
        return stem
    for length in range(len(stem.name) - 1, 0, -1):
        candidate = stem.with_name(stem.name[:length])
        if candidate in references and _ENDING.fullmatch(stem.name[length:]):
            return candidate
    return None


def _same_extension(candidates: list[Path], like: Path) -> Path:
    return next((path for path in candidates if path.suffix == like.suffix), candidates[0])
