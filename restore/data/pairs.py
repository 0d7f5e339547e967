"""Which file belongs to which: pairs of a reference (GT) and a degraded input (LQ), by BasicSR's naming rules.

Without a list, `dataroot_gt/baby.png` belongs to `dataroot_lq/babyx4.png` when `filename_tmpl` is `{}x4`; the extension
may differ. With `meta_info_file`, the first word of each line is the reference relative to `dataroot_gt`. Files come in
sorted order, and a file without its counterpart is an error that names it.

Every dataset has a `name` and its `pairs`: that is all an evaluation needs of it.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from restore.data.complaints import complain, set_aside
from restore.errors import DataError
from restore.files import expanded, text_of
from restore.images import list_images

__all__ = ["Pair", "list_folder", "list_pairs", "listed_files", "listed_lines"]


@dataclass(frozen=True)
class Pair:
    """One item of a dataset.

    Attributes:
        name: what results are called: the stem of the LQ file if there is one, as in BasicSR, else of the GT file.
        gt: the reference, if there is one.
        lq: the degraded input; None where it is to be made from the reference.
    """

    name: str
    gt: Path | None = None
    lq: Path | None = None


def list_pairs(
    dataset: str,
    dataroot_gt: str | Path | None = None,
    dataroot_lq: str | Path | None = None,
    *,
    filename_tmpl: str = "{}",
    meta_info_file: str | Path | None = None,
    recursive: bool = False,
) -> list[Pair]:
    """The pairs of a dataset; without one of the folders, that half of every pair is None.

    Args:
        dataset: name of the dataset, for messages.
        dataroot_gt: folder of the references.
        dataroot_lq: folder of the degraded images.
        filename_tmpl: name of the LQ file without extension, `{}` standing for the name of the GT file.
        meta_info_file: list of the references to take.
        recursive: look into sub-folders as well; a counterpart lies in the sub-folder of the same name.

    Raises:
        DataError: a folder is missing or empty, or files have no counterpart.
    """
    if dataroot_gt is None and dataroot_lq is None:
        raise DataError(f"dataset '{dataset}': give dataroot_gt, dataroot_lq or both.")
    gt_root = None if dataroot_gt is None else expanded(dataroot_gt)
    lq_root = None if dataroot_lq is None else expanded(dataroot_lq)
    if gt_root is None:
        inputs = _files(dataset, lq_root, meta_info_file, "dataroot_lq", recursive)
        return [Pair(path.stem, lq=path) for path in inputs]
    references = _files(dataset, gt_root, meta_info_file, "dataroot_gt", recursive)
    if lq_root is None:
        return [Pair(path.stem, gt=path) for path in references]
    inputs = list_folder(dataset, lq_root, "dataroot_lq", recursive=recursive)
    if not references or not inputs:  # which somebody who gathers complaints knows by now
        set_aside([*references, *inputs])
        return []
    matching = _Matching(dataset, gt_root if recursive else None, lq_root, filename_tmpl)
    return matching.pairs(references, inputs, partial=meta_info_file is not None)


def list_folder(dataset: str, folder: Path, option: str, *, recursive: bool = False) -> list[Path]:
    """The images of a folder, sorted.

    Raises:
        DataError: there is no such folder, or no image in it; names the dataset and the option that gave the folder.
    """
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        complain(f"dataset '{dataset}': the folder {folder} {what}. Check {option}.")
        return []
    files = list_images(folder, recursive=recursive)
    if not files:
        inner = sorted(path.name for path in folder.iterdir() if path.is_dir())
        hint = f" It has the sub-folders {', '.join(inner[:5])}: name one, or set recursive." if inner else ""
        if (folder / "data.mdb").is_file():
            hint = " It is an lmdb: set io_backend: {type: lmdb}."
        complain(f"dataset '{dataset}': no image in the folder {folder} ({option}).{hint}")
    return files


def listed_files(dataset: str, root: Path, meta_info_file: str | Path) -> list[Path]:
    """The files that a meta-information file names: the first word of each line, relative to `root`.

    Raises:
        DataError: the list is missing or empty, or names a file that is not there; says which line.
    """
    listing = expanded(meta_info_file)
    lines = listed_lines(dataset, listing, "meta_info_file")
    wanted = {number: root / line.split()[0] for number, line in lines.items()}
    absent = [
        f"dataset '{dataset}': {path} does not exist ({listing}, line {number}).{_cut_at_a_space(root, lines[number])}"
        for number, path in wanted.items()
        if not path.is_file()
    ]
    if absent:
        complain(_first_of(absent), absent)
    return [path for path in wanted.values() if path.is_file()]


def _cut_at_a_space(root: Path, line: str) -> str:
    """A remark where a longer part of a line, up to another space in it, is a file."""
    line = line.strip()
    longer = [line, *(line[: space.start()] for space in reversed([*re.finditer(r"\s+", line)]))][:-1]
    name = next((name for name in longer if (root / name).is_file()), None)
    return f" A name in this list ends at its first space, and '{name}' has spaces: rename the file." if name else ""


def listed_lines(dataset: str, listing: Path, option: str) -> dict[int, str]:
    """The lines of a list that are not empty, by their number, counted from 1.

    Raises:
        DataError: the list is missing, empty or no text; names the dataset and the option that gave it.
    """
    if not listing.is_file():
        complain(f"dataset '{dataset}': the list {listing} does not exist. Check {option}.")
        return {}
    try:
        text = text_of(listing)
    except UnicodeDecodeError as error:
        complain(f"dataset '{dataset}': the list {listing} is not text in UTF-8 or UTF-16 ({error}). Check {option}.")
        return {}
    lines = {number: line for number, line in enumerate(text.splitlines(), start=1) if line.strip()}
    if not lines:
        complain(f"dataset '{dataset}': the list {listing} names no file.")
    return lines


def _files(dataset: str, root: Path, meta_info_file: str | Path | None, option: str, recursive: bool) -> list[Path]:
    if meta_info_file is not None:
        return listed_files(dataset, root, meta_info_file)
    return list_folder(dataset, root, option, recursive=recursive)


@dataclass(frozen=True)
class _Matching:
    """The rule by which an input belongs to a reference: the same name, through the template, whatever the extension.

    Attributes:
        dataset: name of the dataset, for messages.
        gt_root: folder below which sub-folders count as part of the name; None where names alone count.
        lq_root: folder of the inputs.
        template: name of an input, `{}` standing for the reference's.
    """

    dataset: str
    gt_root: Path | None
    lq_root: Path
    template: str

    def pairs(self, references: Sequence[Path], inputs: Sequence[Path], *, partial: bool) -> list[Pair]:
        """The pairs, in the order of the references; `partial` allows inputs without a reference."""
        by_name: dict[Path, list[Path]] = defaultdict(list)
        for path in inputs:
            inner = path.relative_to(self.lq_root).parent if self.gt_root else Path()
            by_name[inner / path.stem].append(path)
        pairs, orphans = [], []
        for reference in references:
            candidates = by_name.pop(self._wanted(reference), [])
            chosen = [path for path in candidates if path.suffix == reference.suffix] or candidates
            if len(chosen) > 1:
                complain(
                    f"dataset '{self.dataset}': {reference} has two counterparts, {chosen[0]} and {chosen[1]}.",
                    files=chosen[1:],
                )
            if chosen:
                pairs.append(Pair(chosen[0].stem, gt=reference, lq=chosen[0]))
            else:
                orphans.append(reference)
        extra = [] if partial else [path for paths in by_name.values() for path in paths]
        if orphans or extra:
            counts = f"{len(references)} GT and {len(inputs)} LQ images"
            alone = [*orphans, *extra]
            template = _template(orphans, extra) if orphans and extra else None
            hint = f" Their names are alike: write filename_tmpl: '{template}'." if template else ""
            each = [f"dataset '{self.dataset}': {path} has no counterpart.{hint}" for path in alone]
            complain(f"dataset '{self.dataset}' ({counts}): {self._complaint(orphans, extra)}{hint}", each, alone)
        return pairs

    def _wanted(self, reference: Path) -> Path:
        inner = reference.relative_to(self.gt_root).parent if self.gt_root else Path()
        return inner / self.template.replace("{}", reference.stem)

    def _complaint(self, orphans: Sequence[Path], extra: Sequence[Path]) -> str:
        sentences = []
        if orphans:
            example = self.lq_root / self._wanted(orphans[0])
            sentences.append(
                f"{_listed(orphans)} no counterpart {example}{orphans[0].suffix} (or with another extension)."
            )
        if extra:
            sentences.append(f"{_listed(extra)} no counterpart among the references.")
        return f"{' '.join(sentences)} Check dataroot_gt, dataroot_lq and filename_tmpl ('{self.template}')."


def _template(references: Sequence[Path], inputs: Sequence[Path]) -> str | None:
    """The template by which at least half of the references find an input, if there is one."""
    names = {path.stem for path in inputs}
    first = references[0].stem
    found = [name.replace(first, "{}", 1) for name in sorted(names) if first in name]
    counts = {each: sum(each.replace("{}", path.stem) in names for path in references) for each in found}
    best = max(counts, key=lambda each: counts[each], default=None)
    return best if best and 2 * counts[best] >= len(references) else None


def _first_of(messages: Sequence[str]) -> str:
    """The first of several complaints, and how many there are."""
    more = len(messages) - 1
    return f"{messages[0]}{f' And {more} more: restore data check -opt FILE names all.' if more else ''}"


def _listed(paths: Sequence[Path]) -> str:
    shown = ", ".join(map(str, paths[:5]))
    if len(paths) == 1:
        return f"{shown} has"
    return f"{shown}{f' and {len(paths) - 5} more' if len(paths) > 5 else ''} have"
