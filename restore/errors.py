"""Every exception that this package raises on purpose.

    RestoreError
    ├── OptionsError (ValueError)        an option file, override or component block is wrong; carries all problems
    ├── ImageError (ValueError)          an image cannot be read, or has the wrong size, depth or channels
    ├── DataError (ValueError)           a folder, list or database does not hold what it should
    ├── CheckpointError (ValueError)     a weights file is unreadable, refused, or belongs to another network
    ├── OutputError (OSError)            something cannot be written: no space, no permission, or over an input
    ├── DeviceError (RuntimeError)       a device cannot run a network: it has too little memory even for a small tile
    ├── MissingError (ImportError)       an optional dependency or a file that would have to be downloaded is not here
    └── TrainingError (RuntimeError)     training cannot go on: not-finite loss, out of memory, unusable state

The command line turns each of them into one message and exit code 2; `assert` is kept for our own invariants.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = [
    "CheckpointError",
    "DataError",
    "DeviceError",
    "ImageError",
    "MissingError",
    "OptionsError",
    "OutputError",
    "Problem",
    "RestoreError",
    "TrainingError",
    "nearest",
]


class RestoreError(Exception):
    """Base class of all errors that the user can fix."""


class ImageError(RestoreError, ValueError):
    """An image cannot be read, or it has the wrong size, depth or number of channels."""


class DataError(RestoreError, ValueError):
    """A folder, file list or database does not hold what it should."""


class CheckpointError(RestoreError, ValueError):
    """A weights file is unreadable, refused as unsafe, or made for another network."""


class OutputError(RestoreError, OSError):
    """A result cannot be written."""


class DeviceError(RestoreError, RuntimeError):
    """A device cannot run a network, not even on a small tile."""


class MissingError(RestoreError, ImportError):
    """Something optional is not installed or not on disk; the message says how to get it."""


class TrainingError(RestoreError, RuntimeError):
    """Training cannot go on."""


@dataclass(frozen=True)
class Problem:
    """One mistake in an option file.

    Attributes:
        path: where it stands, as a dotted path (`network_g.window_size`); empty for the file as a whole.
        message: what was given, what is allowed and what to do.
        line: line in the YAML file, counted from 1, if known.
        file: name of the file, if known.
    """

    path: str
    message: str
    line: int | None = None
    file: str | None = None

    def __str__(self) -> str:
        place = ":".join(str(part) for part in (self.file, self.line) if part is not None)
        return ": ".join(part for part in (place, self.path, self.message) if part)


class OptionsError(RestoreError, ValueError):
    """One or more mistakes in options, all reported at once.

    Attributes:
        problems: every mistake that was found, in the order of the file.
    """

    def __init__(self, problems: Iterable[Problem] | str):
        self.problems = [Problem("", problems)] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


def nearest(name: str, allowed: Iterable[str], *, most: int = 1) -> str:
    """A sentence such as ` Did you mean 'SwinIR'?`, or an empty string when nothing is close.

    Args:
        name: what was given.
        allowed: what could have been meant.
        most: how many to name.
    """
    by_lower = {candidate.lower(): candidate for candidate in allowed}
    found = [f"'{by_lower[each]}'" for each in difflib.get_close_matches(str(name).lower(), by_lower, most, cutoff=0.6)]
    if not found:
        return ""
    *others, last = found
    return f" Did you mean {', '.join(others)}{' or ' if others else ''}{last}?"
