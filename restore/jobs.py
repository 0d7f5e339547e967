"""Which image becomes which file, decided before any work begins, so that a shard of the jobs can run anywhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from restore.errors import DataError, OptionsError, OutputError, nearest
from restore.images import IMAGE_SUFFIXES, list_images
from restore.images.numbering import Numbering

__all__ = ["Job", "find_images", "finished_jobs", "left_out", "plan_jobs"]

KEPT_SUFFIXES = (".png", ".tif", ".tiff", ".bmp")  # lossless: results of other formats become PNG
LIST_SUFFIX = ".txt"

Source = str | Path | Sequence[str | Path]


@dataclass(frozen=True)
class Job:
    """One image to restore: where it is and where the result goes."""

    source: Path
    target: Path


@dataclass(frozen=True)
class _Found:
    """An image, the folder that its result's sub-folders are counted from, and its number among the inputs."""

    path: Path
    root: Path
    number: int


def plan_jobs(
    source: Source, output: str | Path, *, recursive: bool = False, suffix: str = "", ext: str = "auto"
) -> list[Job]:
    """Decide which image becomes which file.

    Args:
        source: an image, a folder of images, a pattern such as `frames/%05d.png`, a text file with the path of an
            image on each line, or several images.
        output: a folder, in which sub-folders of `source` are kept; a file name where `source` is one image; or a
            pattern, in which frames keep their numbers, and other images are counted from 1.
        recursive: go into sub-folders of `source`.
        suffix: added to the name of each result, before its ending.
        ext: format of the results; "auto" keeps PNG, TIFF and BMP and turns lossy formats into PNG.

    Where two inputs would become one file (`a.jpg` and `a.png`), each keeps its own ending in its name: `a.jpg.png`.

    Raises:
        DataError: there is no image in `source`.
        OptionsError: `ext` is not a format, or `suffix` no part of a name.
        OutputError: a result would replace an input, or two inputs would still become one file.
    """
    output = Path(output).expanduser()
    ending = _ending(ext)
    if not suffix.isprintable() or any(mark in suffix for mark in "/\\"):
        raise OptionsError(f"suffix is '{suffix}': it is a part of file names, such as _x4, without / and \\.")
    images = _find(source, recursive, output)
    if Numbering.is_one(output):
        names = Numbering(output)
        jobs = [Job(image.path, names.path(image.number)) for image in images]
    elif _is_file(source) and output.suffix.lower() in IMAGE_SUFFIXES and not output.is_dir():
        jobs = [Job(images[0].path, output)]
    else:
        jobs = [Job(image.path, _target(image, output, suffix, ending)) for image in images]
    jobs = _told_apart(jobs)
    _refuse_to_overwrite(jobs)
    return jobs


def find_images(source: Source, *, recursive: bool = False) -> list[Path]:
    """The images that `source` stands for, in order; see `plan_jobs`.

    Raises:
        DataError: there is none.
    """
    return [image.path for image in _find(source, recursive)]


def left_out(source: Source, *, recursive: bool = False) -> list[Path]:
    """The files in a folder that are no images by their endings, so that they can be named."""
    if not isinstance(source, (str, Path)) or not (folder := Path(source).expanduser()).is_dir():
        return []
    files = folder.rglob("*") if recursive else folder.iterdir()
    return sorted(
        path
        for path in files
        if path.suffix.lower() not in IMAGE_SUFFIXES
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
    )


def finished_jobs(jobs: Iterable[Job]) -> list[Job]:
    """The jobs whose result is there; results appear whole or not at all, so to be there is to be complete."""
    return [job for job in jobs if job.target.is_file()]


def _is_file(source: Source) -> bool:
    return isinstance(source, (str, Path)) and _is_image(Path(source).expanduser())


def _is_image(path: Path) -> bool:
    """Whether a path is one image; what is in a file decides how it is read, but a list is known by its name."""
    return path.is_file() and path.suffix.lower() != LIST_SUFFIX


def _find(source: Source, recursive: bool, output: Path | None = None) -> list[_Found]:
    """The images of a source; results of an earlier run, which lie in `output`, are no inputs of this one."""
    if not isinstance(source, (str, Path)):
        return _numbered(Path(path).expanduser() for path in source)
    if Numbering.is_one(source):
        found = Numbering(source).find()
        return [_Found(path, path.parent, number) for number, path in found.items()]
    source = Path(source).expanduser()
    if _is_image(source):
        return _numbered([source])
    if source.is_file():
        return _numbered(_listed(source))
    if not source.exists():
        raise DataError(f"'{source}' does not exist: give an image or a folder of images.")
    images = list_images(source, recursive=recursive)
    results = output.resolve() if output else None
    if results and source.resolve() in results.parents:
        images = [image for image in images if results not in image.resolve().parents]
    if not images:
        deeper = "" if recursive else " Sub-folders are searched with --recursive."
        raise DataError(f"there is no image in '{source}' ({_formats()}).{deeper}")
    return [_Found(image, source, number) for number, image in enumerate(images, 1)]


def _numbered(paths: Iterable[Path]) -> list[_Found]:
    return [_Found(path, path.parent, number) for number, path in enumerate(paths, 1)]


def _listed(path: Path) -> list[Path]:
    """The paths in a text file, as `find` and `ls` print them: one on each line, from the current folder.

    Raises:
        DataError: it is no text, or empty.
    """
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except UnicodeDecodeError as error:
        raise DataError(f"'{path}' is not a list of images: it is no text.") from error
    if not any(lines):
        raise DataError(f"'{path}' lists no image: write the path of one on each line.")
    return [Path(line).expanduser() for line in lines if line]


def _ending(ext: str) -> str | None:
    if ext == "auto":
        return None
    ending = f".{ext.lower().lstrip('.')}"
    if ending not in IMAGE_SUFFIXES:
        raise OptionsError(f"ext is '{ext}'.{nearest(ending, IMAGE_SUFFIXES)} Allowed: auto, {_formats()}.")
    return ending


def _formats() -> str:
    return ", ".join(suffix[1:] for suffix in IMAGE_SUFFIXES)


def _target(image: _Found, output: Path, suffix: str, ending: str | None) -> Path:
    path = image.path
    kept = path.suffix if path.suffix.lower() in KEPT_SUFFIXES else ".png"
    return output / path.relative_to(image.root).with_name(f"{path.stem}{suffix}{ending or kept}")


def _told_apart(jobs: list[Job]) -> list[Job]:
    """The jobs with distinct targets, also for file systems that ignore case."""
    shared = _shared_targets(jobs)
    apart = [
        Job(job.source, job.target.with_name(f"{job.target.stem}{job.source.suffix}{job.target.suffix}"))
        if _key(job) in shared
        else job
        for job in jobs
    ]
    shared = _shared_targets(apart)
    if shared:
        names = ", ".join(f"'{job.source}'" for job in apart if _key(job) in shared)
        raise OutputError(f"several inputs would become one output: {names}. Rename some, or restore them apart.")
    return apart


def _key(job: Job) -> str:
    return str(job.target).casefold()


def _shared_targets(jobs: list[Job]) -> set[str]:
    return {key for key, count in Counter(map(_key, jobs)).items() if count > 1}


def _refuse_to_overwrite(jobs: list[Job]) -> None:
    """Compare files, not names: a link to an input is that input."""
    inputs = {_identity(job.source): job.source for job in jobs if job.source.exists()}
    for job in jobs:
        if job.target.exists() and _identity(job.target) in inputs:
            raise OutputError(
                f"'{job.target}' is the input '{inputs[_identity(job.target)]}' itself: "
                "inputs are never overwritten. Choose another output folder or add --suffix."
            )


def _identity(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_dev, stat.st_ino
