"""Which image becomes which file, decided before any work begins, so that a shard of the jobs can run anywhere.

Every command that makes images of images finds its inputs, tells its results apart, leaves results of an earlier run
out, and refuses to overwrite an input by these functions. `plan_jobs` does all of it where one image becomes one file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from restore.errors import DataError, OptionsError, OutputError, nearest
from restore.images import IMAGE_SUFFIXES, list_images
from restore.images.numbering import Numbering

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
    """One image to restore: where it is and where the result goes."""

    source: Path
    target: Path


@dataclass(frozen=True)
class Found:
    """An image, the folder that its result's sub-folders are counted from, and its number among the inputs."""

    path: Path
    root: Path
    number: int

    @property
    def name(self) -> Path:
        """The path below `root`."""
        return self.path.relative_to(self.root)


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
    images = find_images(source, output, recursive=recursive)
    if Numbering.is_one(output):
        names = Numbering(output)
        jobs = [Job(image.path, names.path(image.number)) for image in images]
    elif _is_file(source) and output.suffix.lower() in IMAGE_SUFFIXES and not output.is_dir():
        jobs = [Job(images[0].path, output)]
    else:
        jobs = [Job(image.path, _target(image, output, suffix, ending)) for image in images]
    jobs = _told_apart(jobs)
    refuse_to_overwrite((job.source for job in jobs), (job.target for job in jobs))
    return jobs


def find_images(source: Source, output: str | Path | None = None, *, recursive: bool = False) -> list[Found]:
    """The images that `source` stands for, in order, without the results of an earlier run; see `plan_jobs`.

    Raises:
        DataError: there is none.
    """
    if not isinstance(source, (str, Path)):
        return _numbered(Path(path).expanduser() for path in source)
    if Numbering.is_one(source):
        found = Numbering(source).find()
        return [Found(path, path.parent, number) for number, path in found.items()]
    source = Path(source).expanduser()
    if _is_image(source):
        return _numbered([source])
    if source.is_file():
        return _numbered(_listed(source))
    if not source.exists():
        raise DataError(f"'{source}' does not exist: give an image or a folder of images.")
    images = without_results(list_images(source, recursive=recursive), source, output)
    if not images:
        deeper = "" if recursive else " Sub-folders are searched with --recursive."
        raise DataError(f"there is no image in '{source}' ({_formats()}).{deeper}")
    return [Found(image, source, number) for number, image in enumerate(images, 1)]


def without_results(paths: Iterable[Path], source: str | Path, output: str | Path | None) -> list[Path]:
    """The files of the folder `source` but for those in `output`, where that is a folder (or a pattern) inside it."""
    if output is None:
        return list(paths)
    output = Path(output).expanduser()
    results = (output.parent if Numbering.is_one(output) else output).resolve()
    if Path(source).expanduser().resolve() not in results.parents:
        return list(paths)
    return [path for path in paths if results not in path.resolve().parents]


def left_out(source: Source, output: str | Path | None = None, *, recursive: bool = False) -> list[Path]:
    """The files in a folder that are no images by their endings, so that they can be named."""
    if not isinstance(source, (str, Path)) or not (folder := Path(source).expanduser()).is_dir():
        return []
    files = folder.rglob("*") if recursive else folder.iterdir()
    return sorted(
        path
        for path in without_results(files, folder, output)
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


def _numbered(paths: Iterable[Path]) -> list[Found]:
    return [Found(path, path.parent, number) for number, path in enumerate(paths, 1)]


def _listed(path: Path) -> list[Path]:
    """The paths in a text file, as `find` and `ls` print them: one on each line, from the current folder.

    Raises:
        DataError: it is not text, or empty.
    """
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except UnicodeDecodeError as error:
        raise DataError(f"'{path}' is not a list of images: it is not text.") from error
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


def _target(image: Found, output: Path, suffix: str, ending: str | None) -> Path:
    path = image.path
    kept = path.suffix if path.suffix.lower() in KEPT_SUFFIXES else ".png"
    return output / image.name.with_name(f"{path.stem}{suffix}{ending or kept}")


def _told_apart(jobs: list[Job]) -> list[Job]:
    """The jobs with distinct targets."""
    shared = _shared(job.target for job in jobs)
    apart = [
        Job(job.source, job.target.with_name(f"{job.target.stem}{job.source.suffix}{job.target.suffix}"))
        if _key(job.target) in shared
        else job
        for job in jobs
    ]
    refuse_shared_targets(apart)
    return apart


def refuse_shared_targets(jobs: Iterable[Job]) -> None:
    """Refuse what would write two results to one file, also on file systems that ignore case.

    Raises:
        OutputError: names the inputs.
    """
    jobs = list(jobs)
    shared = _shared(job.target for job in jobs)
    if shared:
        names = ", ".join(f"'{job.source}'" for job in jobs if _key(job.target) in shared)
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


def _key(target: Path) -> str:
    return str(target).casefold()


def _shared(targets: Iterable[Path]) -> set[str]:
    return {key for key, count in Counter(map(_key, targets)).items() if count > 1}


def _identity(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_dev, stat.st_ino
