"""Opens every file of a dataset before a training does, and names all that are wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

from restore.data.sampling import Draw
from restore.data.storage.databases import stored_image
from restore.errors import RestoreError

__all__ = ["check_dataset", "check_files", "samples_to_read"]


class Indexed(Protocol):
    """A dataset."""

    def __len__(self) -> int: ...

    def __getitem__(self, item: Any) -> Any: ...


def check_dataset(
    dataset: Indexed,
    *,
    training: bool = False,
    patch_px: int | None = None,
    num_workers: int = 4,
    on_progress: Callable[[], None] = lambda: None,
) -> Iterator[str]:
    """Read every file of a dataset; gives a message for each image, or pair of them, that cannot be used.

    Args:
        dataset: unreadable images and sizes that do not match are errors of its own.
        training: take patches, as a training does, not whole images: images may be too small for them.
        patch_px: side of those patches; None for the dataset's own.
        num_workers: threads that read.
        on_progress: called after each sample.
    """

    def check(index: int) -> list[str]:
        try:
            dataset[Draw(index, 0, index, patch_px) if training else index]
        except (RestoreError, OSError) as error:
            return [str(error), *_complaints_of_sources(dataset, index)]
        finally:
            on_progress()
        return []

    said: set[str] = set()
    for message in _in_threads(check, samples_to_read(dataset), num_workers):
        if message not in said:
            said.add(message)
            yield message


def samples_to_read(dataset: Indexed) -> Sequence[int]:
    """The samples that between them show every file: all, unless the dataset shows files several times and says so."""
    return getattr(dataset, "showing_every_file", range(len(dataset)))


def check_files(paths: Sequence[Path], *, num_workers: int = 4) -> Iterator[str]:
    """Read images that belong to no sample, in files or databases; gives a message for each that is damaged."""

    def check(path: Path) -> list[str]:
        try:
            stored_image(path)
        except (RestoreError, OSError) as error:
            return [str(error)]
        return []

    yield from _in_threads(check, paths, num_workers)


def _in_threads(check: Callable[[Any], list[str]], items: Sequence[Any], num_workers: int) -> Iterator[str]:
    with ThreadPoolExecutor(num_workers) as pool:
        for messages in pool.map(check, items):
            yield from messages


def _complaints_of_sources(dataset: Indexed, index: int) -> Iterator[str]:
    """Of a sample that cannot be used: a message for each of its images that cannot be read."""
    for side in ("gt", "lq"):
        source = getattr(dataset, side, None)
        if source is not None:
            try:
                source.read(index)
            except (RestoreError, OSError) as error:
                yield str(error)
