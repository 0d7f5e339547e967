"""Opens every file of a dataset before a training does, and names all that are wrong at once."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from restore.errors import RestoreError

__all__ = ["check_dataset"]


class Indexed(Protocol):
    """A dataset of whole images."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Any: ...


def check_dataset(
    dataset: Indexed, *, num_workers: int = 4, on_progress: Callable[[], None] = lambda: None
) -> list[str]:
    """Read every image (or pair) of a dataset; returns one message for each that cannot be used.

    Args:
        dataset: unreadable images and sizes that do not match are errors of its own.
        num_workers: threads that read.
        on_progress: called after each image.
    """

    def check(index: int) -> str | None:
        try:
            dataset[index]
        except RestoreError as error:
            return str(error)
        finally:
            on_progress()
        return None

    with ThreadPoolExecutor(num_workers) as pool:
        return [message for message in pool.map(check, range(len(dataset))) if message]
