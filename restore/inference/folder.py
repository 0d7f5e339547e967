"""Restoring files one after another, in one process: reading ahead and writing behind, failures by name."""

from __future__ import annotations

import errno
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from restore.allocator import give_back_memory, zeros_apart
from restore.errors import ImageError, OutputError, RestoreError
from restore.images import Image, flatten, read_image, write_image, written_by_rows
from restore.images.formats import check_fits
from restore.inference.pipeline import WriteBehind, read_ahead
from restore.inference.restorer import Restorer
from restore.inference.rows import PIECE_ROWS
from restore.jobs import Job
from restore.terminal import one_line

__all__ = ["Outcome", "restore_files"]

READERS = WRITERS = 2
HELD_BYTES = 64 << 20  # of a result: larger ones are written by rows
FATAL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}  # the next file would meet them too
logger = logging.getLogger(__name__)


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


def restore_files(
    jobs: Iterable[Job],
    restorer: Restorer,
    *,
    quality: int = 95,
    flat: bool = False,
    on_progress: Callable[[Job, float], None] | None = None,
) -> Iterator[Outcome]:
    """Restore and write every job, yielding what became of each as soon as it is known.

    A file that cannot be read, restored or written does not stop the others. What the format of a result cannot hold
    is known when the image has been read, and is not restored.

    Args:
        jobs: what to do.
        restorer: what restores them.
        quality: of lossy formats, 1 to 100.
        flat: lay images with transparency on white.
        on_progress: called with a job and the share of it that is done.

    Raises:
        OutputError: nothing more can be written: the disk is full, or there is no permission.
    """
    jobs = list(jobs)
    _make_folders(jobs)
    failures: deque[Outcome] = deque()
    with ThreadPoolExecutor(READERS) as readers, ThreadPoolExecutor(WRITERS) as writers:
        writes: WriteBehind[Outcome] = WriteBehind(writers)
        images = _readable(read_ahead(jobs, partial(_read, restorer=restorer, flat=flat), readers), failures)
        for batch in restorer.batches(images, image_of=lambda item: item[1]):
            if len(batch) == 1 and _is_large(*batch[0], restorer):
                yield _restored_by_rows(*batch[0], restorer, quality, on_progress)
                continue
            for outcome, image in _restored(batch, restorer, on_progress):
                if outcome.error is None:
                    writes.put(outcome, _writer(outcome.job.target, image, quality))
                else:
                    failures.append(outcome)
            yield from _drained(failures)
            yield from _written(writes.finished())
        yield from _drained(failures)
        yield from _written(writes.finished(all_of_them=True))


def _make_folders(jobs: list[Job]) -> None:
    for folder in sorted({job.target.parent for job in jobs}):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"cannot make the folder '{folder}': {error.strerror or error}") from error


def _read(job: Job, restorer: Restorer, flat: bool) -> Image:
    image = read_image(job.source)
    image = flatten(image, restorer.values.white) if flat else image
    try:
        check_fits(job.target.suffix, *restorer.result_of(image.pixels.shape, image.pixels.dtype.name))
    except ImageError as error:
        raise ImageError(f"'{job.source}' is not restored, as '{job.target}' could not be written: {error}.") from None
    return image


def _readable(read: Iterable[tuple[Job, Future[Image]]], failures: deque[Outcome]) -> Iterator[tuple[Job, Image]]:
    """The images that could be read; the others go to `failures`."""
    for job, future in read:
        error = future.exception()
        if error is None:
            yield job, future.result()
        else:
            failures.append(_failed(job, error))


def _is_large(job: Job, image: Image, restorer: Restorer) -> bool:
    """Whether the result is rather written by rows than held."""
    shape, depth = restorer.result_of(image.pixels.shape, image.pixels.dtype.name)
    return math.prod(shape) * np.dtype(depth).itemsize >= HELD_BYTES


def _restored_by_rows(
    job: Job, image: Image, restorer: Restorer, quality: int, on_progress: Callable[[Job, float], None] | None
) -> Outcome:
    """Restore an image and write its rows as they are finished, in a thread: the result is never held.

    Raises:
        OutputError: nothing more can be written.
    """
    started = time.perf_counter()
    give_back_memory()  # what decoding took
    shape, depth = restorer.result_of(image.pixels.shape, image.pixels.dtype.name)
    try:
        with (
            written_by_rows(job.target, image, shape, depth, quality=quality) as write,
            ThreadPoolExecutor(1) as writer,
        ):
            behind: WriteBehind[int] = WriteBehind(writer, depth=2)
            waiting = [zeros_apart((PIECE_ROWS, *shape[1:]), np.dtype(depth)) for _ in range(3)]
            for number, rows in enumerate(restorer.rows(image, partial(on_progress, job) if on_progress else None)):
                place = waiting[number % 3][: len(rows)]
                place[:] = rows
                behind.put(number, partial(write, place))
                _check(behind.finished())
            _check(behind.finished(all_of_them=True))
    except Exception as error:  # whatever it is, it is told of this image and does not stop the others
        _raise_fatal(error)
        return _failed(job, error)
    return Outcome(job, seconds=time.perf_counter() - started)


def _check(writes: Iterable[tuple[int, Future[None]]]) -> None:
    """Raise what went wrong in the writes that are done."""
    for _, future in writes:
        future.result()


def _restored(
    batch: list[tuple[Job, Image]], restorer: Restorer, on_progress: Callable[[Job, float], None] | None
) -> Iterator[tuple[Outcome, Image | None]]:
    """Restore a batch together; if that fails, each image alone, so that one cannot take others with it."""
    started = time.perf_counter()
    try:
        if len(batch) == 1:
            job, image = batch[0]
            restored = [restorer(image, on_progress=partial(on_progress, job) if on_progress else None)]
        else:
            restored = restorer.batch([image for _, image in batch])
    except Exception as error:  # whatever it is, it is told of this image and does not stop the others
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
        _raise_fatal(error)
        yield outcome if error is None else _failed(outcome.job, error)


def _raise_fatal(error: BaseException | None) -> None:
    if isinstance(error, OSError) and _errno(error) in FATAL:
        raise error


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
    named = any(name in message for name in (str(job.source), one_line(str(job.source))))
    return Outcome(job, error=message if named else f"'{job.source}': {message}")


def _drained(outcomes: deque[Outcome]) -> Iterator[Outcome]:
    while outcomes:
        yield outcomes.popleft()
