"""Files to files: which image becomes which, what is refused beforehand, and restoring them one after another.

`plan_jobs` decides everything before any work begins, so that a shard of its jobs can run anywhere; `restore_files`
runs them in one process, reading and writing in the background.
"""

from __future__ import annotations

import errno
import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from restore.errors import DataError, OptionsError, OutputError, RestoreError, nearest
from restore.files import remove_leftovers
from restore.images import IMAGE_SUFFIXES, Image, list_images, read_image, write_image
from restore.inference.pipeline import WriteBehind, read_ahead
from restore.inference.restorer import Restorer

__all__ = ["Job", "Outcome", "finished_jobs", "plan_jobs", "restore_files"]

KEPT_SUFFIXES = (".png", ".tif", ".tiff", ".bmp")  # lossless: results of other formats become PNG
READERS = WRITERS = 2
FATAL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}  # the next file would meet them too
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """One image to restore: where it is and where the result goes."""

    source: Path
    target: Path


@dataclass(frozen=True)
class Outcome:
    """What became of a job.

    Attributes:
        job: the job.
        error: why it failed; None when the result is written.
        seconds: in the network, shared equally among images that went through together.
    """

    job: Job
    error: str | None = None
    seconds: float = 0.0


def plan_jobs(
    source: str | Path, output: str | Path, *, recursive: bool = False, suffix: str = "", ext: str = "auto"
) -> list[Job]:
    """Decide which image becomes which file.

    Args:
        source: an image, or a folder of images.
        output: a folder, in which sub-folders of `source` are kept; or a file name where `source` is one image.
        recursive: go into sub-folders of `source`.
        suffix: added to the name of each result, before its ending.
        ext: format of the results; "auto" keeps PNG, TIFF and BMP and turns lossy formats into PNG.

    Where two inputs would become one file (`a.jpg` and `a.png`), each keeps its own ending in its name: `a.jpg.png`.

    Raises:
        DataError: there is no image in `source`.
        OptionsError: `ext` is not a format.
        OutputError: a result would replace an input, or two inputs would still become one file.
    """
    source, output = Path(source).expanduser(), Path(output).expanduser()
    ending = _ending(ext)
    if source.is_file() and output.suffix.lower() in IMAGE_SUFFIXES and not output.is_dir():
        jobs = [Job(source, output)]
    else:
        root, images = _find(source, output, recursive)
        jobs = [Job(image, _target(image, root, output, suffix, ending)) for image in images]
    jobs = _told_apart(jobs)
    _refuse_to_overwrite(jobs)
    return jobs


def finished_jobs(jobs: Iterable[Job]) -> list[Job]:
    """The jobs whose result is there; results appear whole or not at all, so to be there is to be complete."""
    return [job for job in jobs if job.target.is_file()]


def restore_files(
    jobs: Iterable[Job],
    restorer: Restorer,
    *,
    quality: int = 95,
    on_progress: Callable[[Job, float], None] | None = None,
) -> Iterator[Outcome]:
    """Restore and write every job, yielding what became of each as soon as it is known.

    A file that cannot be read, restored or written does not stop the others.

    Raises:
        OutputError: nothing more can be written: the disk is full, or there is no permission.
    """
    jobs = list(jobs)
    _make_folders(jobs)
    failures: deque[Outcome] = deque()
    with ThreadPoolExecutor(READERS) as readers, ThreadPoolExecutor(WRITERS) as writers:
        writes: WriteBehind[Outcome] = WriteBehind(writers)
        images = _readable(read_ahead(jobs, _read, readers), failures)
        for batch in restorer.batches(images, image_of=lambda item: item[1]):
            for outcome, image in _restored(batch, restorer, on_progress):
                if outcome.error is None:
                    writes.put(outcome, _writer(outcome.job.target, image, quality))
                else:
                    failures.append(outcome)
            yield from _drained(failures)
            yield from _written(writes.finished())
        yield from _drained(failures)
        yield from _written(writes.finished(all_of_them=True))


def _ending(ext: str) -> str | None:
    if ext == "auto":
        return None
    ending = f".{ext.lower().lstrip('.')}"
    if ending not in IMAGE_SUFFIXES:
        raise OptionsError(f"ext is '{ext}'.{nearest(ending, IMAGE_SUFFIXES)} Allowed: auto, {_formats()}.")
    return ending


def _formats() -> str:
    return ", ".join(suffix[1:] for suffix in IMAGE_SUFFIXES)


def _find(source: Path, output: Path, recursive: bool) -> tuple[Path, list[Path]]:
    if source.is_file():
        return source.parent, [source]
    if not source.exists():
        raise DataError(f"'{source}' does not exist: give an image or a folder of images.")
    images = list_images(source, recursive=recursive)
    results = output.resolve()
    if source.resolve() in results.parents:  # results of an earlier run are no inputs of this one
        images = [image for image in images if results not in image.resolve().parents]
    if not images:
        deeper = "" if recursive else " Sub-folders are searched with --recursive."
        raise DataError(f"there is no image in '{source}' ({_formats()}).{deeper}")
    return source, images


def _target(image: Path, root: Path, output: Path, suffix: str, ending: str | None) -> Path:
    kept = image.suffix if image.suffix.lower() in KEPT_SUFFIXES else ".png"
    return output / image.relative_to(root).with_name(f"{image.stem}{suffix}{ending or kept}")


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
    inputs = {_identity(job.source): job.source for job in jobs}
    for job in jobs:
        if job.target.exists() and _identity(job.target) in inputs:
            raise OutputError(
                f"'{job.target}' is the input '{inputs[_identity(job.target)]}' itself: "
                "inputs are never overwritten. Choose another output folder or add --suffix."
            )


def _identity(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_dev, stat.st_ino


def _make_folders(jobs: list[Job]) -> None:
    for folder in sorted({job.target.parent for job in jobs}):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"cannot make the folder '{folder}': {error.strerror or error}") from error
        remove_leftovers(folder)


def _read(job: Job) -> Image:
    return read_image(job.source)


def _readable(read: Iterable[tuple[Job, Future[Image]]], failures: deque[Outcome]) -> Iterator[tuple[Job, Image]]:
    """The images that could be read; the others go to `failures`."""
    for job, future in read:
        error = future.exception()
        if error is None:
            yield job, future.result()
        else:
            failures.append(_failed(job, error))


def _restored(
    batch: list[tuple[Job, Image]], restorer: Restorer, on_progress: Callable[[Job, float], None] | None
) -> Iterator[tuple[Outcome, Image | None]]:
    """Restore a batch together; if that fails, each image alone, so that one cannot take others with it."""
    started = time.perf_counter()
    try:
        if len(batch) == 1:
            job, image = batch[0]
            restored = [restorer(image, on_progress=(lambda share: on_progress(job, share)) if on_progress else None)]
        else:
            restored = restorer.batch([image for _, image in batch])
    except Exception as error:
        if len(batch) == 1:
            yield _failed(batch[0][0], error), None
        else:
            for item in batch:
                yield from _restored([item], restorer, on_progress)
        return
    seconds = (time.perf_counter() - started) / len(batch)
    for (job, _), image in zip(batch, restored, strict=True):
        yield Outcome(job, seconds=seconds), image


def _writer(target: Path, image: Image | None, quality: int) -> Callable[[], None]:
    assert image is not None
    return lambda: write_image(target, image, quality=quality)


def _written(writes: Iterable[tuple[Outcome, Future[None]]]) -> Iterator[Outcome]:
    for outcome, future in writes:
        error = future.exception()
        if isinstance(error, OSError) and _errno(error) in FATAL:
            raise error
        yield outcome if error is None else _failed(outcome.job, error)


def _errno(error: BaseException | None) -> int | None:
    """The system's number of an error, also of the one behind an `OutputError`."""
    while error is not None:
        if isinstance(error, OSError) and error.errno is not None:
            return error.errno
        error = error.__cause__
    return None


def _failed(job: Job, error: BaseException) -> Outcome:
    logger.debug("%s failed", job.source, exc_info=error)
    message = str(error) if isinstance(error, RestoreError) else f"{type(error).__name__}: {error}"
    return Outcome(job, error=message if str(job.source) in message else f"'{job.source}': {message}")


def _drained(outcomes: deque[Outcome]) -> Iterator[Outcome]:
    while outcomes:
        yield outcomes.popleft()
