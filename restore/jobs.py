"""Which image becomes which file, decided before any work begins, so that a shard of the jobs can run anywhere.

Every command that makes images of images finds its inputs, tells its results apart, leaves results of an earlier run
out, and refuses to overwrite an input by these functions. `plan_jobs` does all of it where one image becomes one file.
"""

from __future__ import annotations

import glob
import itertools
import os
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from restore.errors import DataError, OptionsError, OutputError, nearest
from restore.files import expanded, means_file, real_path, text_of
from restore.images import WRITTEN_SUFFIXES, list_images, readable_suffixes
from restore.images.formats import is_image_name, unread_here
from restore.images.numbering import Numbering
from restore.terminal import visible

__all__ = [
    "Found",
    "Job",
    "find_images",
    "finished_jobs",
    "left_out",
    "plan_jobs",
    "refuse_shared_targets",
    "refuse_to_overwrite",
    "without_results",
]

KEPT_SUFFIXES = (".png", ".tif", ".tiff", ".bmp")  # lossless: results of other formats become PNG
LIST_SUFFIX = ".txt"

Source = str | Path | Sequence[str | Path]


@dataclass(frozen=True)
class Job:
    """One image to restore.

    Attributes:
        source: where it is.
        target: where the result goes.
        kept: whether the target lies among the inputs, as the result of an earlier run: it stays as it is.
    """

    source: Path
    target: Path
    kept: bool = False


@dataclass(frozen=True)
class Found:
    """An image among the inputs.

    Attributes:
        path: where it is.
        root: the folder that its result's sub-folders are counted from.
        number: among the inputs, from 1; that in its name where the names are numbered.
        below: of several folders, the name that tells the results of this one apart; empty for one.
    """

    path: Path
    root: Path
    number: int
    below: str = ""

    @property
    def name(self) -> Path:
        """The path of its result below the folder of results, with the ending of the input."""
        return self.below / self.path.relative_to(self.root)


def plan_jobs(
    source: Source, output: str | Path, *, recursive: bool = False, suffix: str = "", ext: str = "auto"
) -> list[Job]:
    """Decide which image becomes which file.

    Args:
        source: what `find_images` takes.
        output: a folder, in which sub-folders of `source` are kept; a file name where `source` is one image; or a
            pattern, in which frames keep their numbers, and other images are counted from 1. A name that ends as
            files do is that of a file, unless a folder has it or a slash stands behind it.
        recursive: go into sub-folders of `source`.
        suffix: added to the name of each result, before its ending.
        ext: format of the results; "auto" keeps PNG, TIFF and BMP and turns lossy formats into PNG.

    Where two inputs would become one file (`a.jpg` and `a.png`), each keeps its own ending in its name: `a.jpg.png`.
    Where results go among the inputs, with a `suffix`, those of an earlier run are no inputs, and stay as they are.

    Raises:
        DataError: there is no image in `source`.
        OptionsError: `ext` is not a format, `suffix` no part of a name, `output` a file that cannot be written.
        OutputError: a result would replace an input, or two inputs would still become one file.
    """
    ending = _ending(ext)
    if not suffix.isprintable() or any(mark in suffix for mark in "/\\"):
        raise OptionsError(f"suffix is '{suffix}': it is a part of file names, such as _x4, without / and \\.")
    images = find_images(source, output, recursive=recursive)
    if Numbering.is_one(output):
        names = Numbering(_written(output))
        jobs = [Job(image.path, names.path(image.number)) for image in images]
    elif means_file(output):
        target = _written(output)
        if len(images) > 1 or any(path.is_dir() for path in _paths(source)):
            raise OptionsError(
                f"'{output}' is the name of one file, and the input is a folder or several images: give a folder for "
                "the results. If a folder of that very name is meant, end it with /."
            )
        jobs = [Job(images[0].path, target)]
    else:
        folder = expanded(output)
        if not suffix and folder.is_dir() and any(path.is_dir() and path.samefile(folder) for path in _paths(source)):
            raise OutputError(
                f"the results would lie among the inputs in '{folder}', which are never overwritten: give the results "
                "names of their own with --suffix, such as _x4, or another folder."
            )
        jobs = [Job(image.path, _target(image, folder, suffix, ending)) for image in images]
    own = _own_results(jobs) if suffix else set()
    jobs = _told_apart([job for job in jobs if _place(job.source) not in own])
    refuse_to_overwrite((job.source for job in jobs), (job.target for job in jobs))
    return [replace(job, kept=True) if _place(job.target) in own else job for job in jobs]


def find_images(source: Source, output: str | Path | None = None, *, recursive: bool = False) -> list[Found]:
    """The images that `source` stands for, in order, each once, without the results of an earlier run.

    Args:
        source: an image, a folder of images, numbered files such as `frames/%05d.png`, a text file with the path of an
            image on each line, a pattern such as `photos/*.png`, or several images, folders and patterns: results of
            several folders are told apart by the folders' names.
        output: where the results go.
        recursive: go into sub-folders.

    Raises:
        DataError: there is none; names the formats that are not read here.
    """
    if isinstance(source, (str, Path)):
        if Numbering.is_one(source):
            return [Found(path, path.parent, number) for number, path in Numbering(source).find().items()]
        if not _matching(source):
            raise DataError(f"'{source}' does not exist: give an image or a folder of images.")
    paths = _paths(source)
    names = _names([path for path in paths if path.is_dir()] if len(paths) > 1 else [])
    images: dict[Path, tuple[Path, Path, str]] = {}
    place = _place if len(paths) > 1 else Path
    for path in paths:
        if path.is_dir():
            for image in without_results(list_images(path, recursive=recursive), path, output):
                images.setdefault(place(image), (image, path, names.get(path, "")))
        else:
            images.setdefault(place(path), (path, path.parent, ""))
    if not images:
        unread = unread_here(left_out(source, output, recursive=recursive))
        hints = [unread and f" There are {unread}.", "" if recursive else " Sub-folders are searched with --recursive."]
        folders = ", ".join(f"'{path}'" for path in paths)
        raise DataError(f"there is no image in {folders} ({_endings(readable_suffixes())}).{''.join(hints)}")
    return [Found(path, root, number, below) for number, (path, root, below) in enumerate(images.values(), 1)]


def without_results(paths: Iterable[Path], source: str | Path, output: str | Path | None) -> list[Path]:
    """The files of the folder `source` but for those in `output`, where that is a folder (or a pattern) inside it."""
    if output is None:
        return list(paths)
    output = expanded(output)
    results = real_path(output.parent if Numbering.is_one(output) else output)
    if real_path(expanded(source)) not in results.parents:
        return list(paths)
    return [path for path in paths if results not in real_path(path).parents]


def left_out(source: Source, output: str | Path | None = None, *, recursive: bool = False) -> list[Path]:
    """The files in folders that are no images by their endings, so that they can be named."""
    suffixes = readable_suffixes()
    return sorted(
        path
        for folder in filter(Path.is_dir, _paths(source))
        for path in without_results(folder.rglob("*") if recursive else folder.iterdir(), folder, output)
        if path.suffix.lower() not in suffixes
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
    )


def finished_jobs(jobs: Iterable[Job], *, resume: bool = True) -> list[Job]:
    """The jobs that are done: those whose result lies among the inputs; where `resume`, all whose result is there.

    Results appear whole or not at all, so to be there is to be complete.
    """
    return [job for job in jobs if job.kept or (resume and job.target.is_file())]


def _paths(source: Source) -> list[Path]:
    """The images and folders that were given, with patterns and a list resolved."""
    if not isinstance(source, (str, Path)):
        return [path for each in source for path in _matching(each) or [expanded(each)]]
    paths = _matching(source)
    is_list = len(paths) == 1 and paths[0].is_file() and paths[0].suffix.lower() == LIST_SUFFIX
    return _listed(paths[0]) if is_list else paths


def _matching(given: str | Path) -> list[Path]:
    """The path itself, if it is there; else the images and folders that it is a pattern of."""
    path = expanded(given)
    if os.path.lexists(path):
        return [path]
    if not glob.has_magic(str(path)):
        return []
    found = sorted(map(Path, glob.iglob(str(path), recursive=True)))  # noqa: PTH207 - of any folder, as shells do it
    return [path for path in found if path.is_dir() or is_image_name(path)]


def _names(folders: Iterable[Path]) -> dict[Path, str]:
    """A name for each of several folders: its own, with a number where another one has it."""
    names: dict[Path, str] = {}
    for folder in folders:
        name = real_path(folder).name or "root"
        candidates = itertools.chain([name], (f"{name}_{number}" for number in itertools.count(2)))
        names.setdefault(folder, next(each for each in candidates if each not in names.values()))
    return names


def _listed(path: Path) -> list[Path]:
    """The paths in a text file, as `find` and `ls` print them: one on each line, from the current folder.

    Raises:
        DataError: it is not text, or empty.
    """
    try:
        lines = [line.strip() for line in text_of(path, errors="surrogateescape").splitlines()]
        if any(line != visible(line) and not os.path.lexists(expanded(line)) for line in lines):
            text_of(path)  # names in bytes that are no text are of files that are there, or the list is no text
    except UnicodeDecodeError as error:
        raise DataError(f"'{path}' is not a list of images: it is not text in UTF-8 or UTF-16.") from error
    if not any(lines):
        raise DataError(f"'{path}' lists no image: write the path of one on each line.")
    return [expanded(line) for line in lines if line]


def _ending(ext: str) -> str | None:
    if ext == "auto":
        return None
    ending = f".{ext.lower().lstrip('.')}"
    if ending not in WRITTEN_SUFFIXES:
        raise OptionsError(f"ext is '{ext}'.{nearest(ending, WRITTEN_SUFFIXES)} Allowed: auto, {_endings()}.")
    return ending


def _endings(suffixes: Iterable[str] = WRITTEN_SUFFIXES) -> str:
    return ", ".join(suffix[1:] for suffix in suffixes)


def _written(output: str | Path) -> Path:
    """The name of a file, or a pattern of names, in a format that can be written.

    Raises:
        OptionsError: it is in none.
    """
    path = expanded(output)
    if path.suffix.lower() not in WRITTEN_SUFFIXES:
        raise OptionsError(
            f"'{output}': {path.suffix} is not written.{nearest(path.suffix, WRITTEN_SUFFIXES)} Images are written as "
            f"{_endings()}. If a folder of that very name is meant, end it with /."
        )
    return path


def _target(image: Found, output: Path, suffix: str, ending: str | None) -> Path:
    path = image.path
    kept = path.suffix if path.suffix.lower() in KEPT_SUFFIXES else ".png"
    return output / image.name.with_name(f"{path.stem}{suffix}{ending or kept}")


def _own_results(jobs: list[Job]) -> set[Path]:
    """The places of those inputs that would be the result of another one, and so are results of an earlier run."""
    sources = {_place(job.source): job.source for job in jobs}
    return {
        place
        for job in jobs
        for place in (_place(job.target), _place(_with_both_endings(job).target))
        if place in sources and sources[place] != job.source
    }


def _place(path: Path) -> Path:
    return real_path(path.parent) / path.name


def _with_both_endings(job: Job) -> Job:
    target = job.target
    return replace(job, target=target.with_name(f"{target.stem}{job.source.suffix}{target.suffix}"))


def _told_apart(jobs: list[Job]) -> list[Job]:
    """The jobs with distinct targets: with both endings in the name, or a number where the case of letters is lost."""
    shared = _shared(job.target for job in jobs)
    jobs = [_with_both_endings(job) if job.target in shared else job for job in jobs]
    shared, taken = _shared(job.target for job in jobs), Counter[Path]()
    for index, job in enumerate(jobs):
        same = Path(str(job.target).casefold())
        taken[same] += 1
        if job.target in shared and taken[same] > 1 and job.target not in {other.target for other in jobs[:index]}:
            numbered = job.target.with_stem(f"{job.target.stem}_{taken[same]}")
            jobs[index] = replace(job, target=numbered)
    refuse_shared_targets(jobs)
    return jobs


def refuse_shared_targets(jobs: Iterable[Job]) -> None:
    """Refuse what would write two results to one file, also where the file system ignores case.

    Raises:
        OutputError: names the inputs.
    """
    jobs = list(jobs)
    shared = _shared(job.target for job in jobs)
    if shared:
        names = ", ".join(f"'{job.source}'" for job in jobs if job.target in shared)
        raise OutputError(f"several inputs would become one output: {names}. Rename some, or run them apart.")


def refuse_to_overwrite(sources: Iterable[Path], targets: Iterable[Path]) -> None:
    """Refuse results that would replace an input; files are compared, not names: a link to an input is that input.

    Raises:
        OutputError: names the first.
    """
    inputs = {_identity(source): source for source in sources if source.exists()}
    for target in targets:
        if target.exists() and _identity(target) in inputs:
            raise OutputError(
                f"'{target}' is the input '{inputs[_identity(target)]}' itself: "
                "inputs are never overwritten. Choose another folder, or other names, for the results."
            )


def _shared(targets: Iterable[Path]) -> set[Path]:
    """The targets that are one file with another of them."""
    by_name: dict[str, list[Path]] = defaultdict(list)
    for target in targets:
        by_name[str(target).casefold()].append(target)
    several = [alike for alike in by_name.values() if len(alike) > 1]
    exact = {target for alike in several for target, count in Counter(alike).items() if count > 1}
    by_case = {target for alike in several if len(set(alike)) > 1 for target in alike}
    return exact if not by_case or _tells_case(next(iter(by_case)).parent) else exact | by_case


def _tells_case(folder: Path) -> bool:
    """Whether the file system of a folder, or of the nearest one above it that is there, tells `a` from `A`."""
    place = next(each for each in (folder.absolute(), *folder.absolute().parents) if each.is_dir())
    try:
        with tempfile.NamedTemporaryFile(prefix=".case", dir=place) as probe:
            file = Path(probe.name)
            return not file.with_name(file.name.swapcase()).exists()
    except OSError:  # where nothing can be written, nothing is overwritten
        return True


def _identity(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_dev, stat.st_ino
