"""What is wrong with the files of a dataset: the first thing ends a training, a check wants to hear of all of them.

    complain("2 images have no counterpart ...", ["a.png has no counterpart", "b.png has no counterpart"])

raises the summary; inside `gathering()` it notes every item instead, and the dataset goes on with what is left.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path

from restore.errors import DataError

__all__ = ["Gathered", "complain", "gathering", "is_gathering", "set_aside"]


@dataclass
class Gathered:
    """What was noted while datasets were made.

    Attributes:
        messages: one for each file, list or folder that cannot be used.
        files: images that belong to no sample, so that nobody else opens them.
    """

    messages: list[str] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)


_gathered: ContextVar[Gathered | None] = ContextVar("gathered", default=None)


@contextlib.contextmanager
def gathering() -> Iterator[Gathered]:
    """Inside, datasets leave out what they cannot use, and it is noted here."""
    gathered = Gathered()
    token = _gathered.set(gathered)
    try:
        yield gathered
    finally:
        _gathered.reset(token)


def is_gathering() -> bool:
    """Whether datasets are made to be checked, not to be trained on."""
    return _gathered.get() is not None


def complain(summary: str, each: Sequence[str] = (), files: Sequence[Path] = ()) -> None:
    """Say what is wrong with a dataset.

    Args:
        summary: all of it in one message.
        each: a message for each thing that is wrong; by default the summary.
        files: images that will belong to no sample.

    Raises:
        DataError: the summary, unless what is wrong is being gathered.
    """
    gathered = _gathered.get()
    if gathered is None:
        raise DataError(summary)
    gathered.messages += each or [summary]
    set_aside(files)


def set_aside(files: Sequence[Path]) -> None:
    """Note images that will belong to no sample, if what is wrong is being gathered."""
    gathered = _gathered.get()
    if gathered is not None:
        gathered.files += files
