"""Writing files so that nobody ever sees half of one, and telling whether one is what it should be."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from restore.errors import OutputError

try:
    import fcntl
except ImportError:  # Windows, which refuses to remove a file that is open
    fcntl = None  # type: ignore[assignment]

__all__ = ["atomic_write", "lock", "remove_leftovers", "sha256_of"]

_BLOCK_BYTES = 1 << 20
TEMPORARY = re.compile(r"\.[0-9a-f]{32}\.tmp")


@contextlib.contextmanager
def atomic_write(path: str | Path) -> Iterator[BinaryIO]:
    """Open a temporary file beside `path` for writing; on success it takes the name `path` in one step.

    Missing folders are made. The bytes reach the disk before the name does, so a crash at any moment leaves the old
    file or the new one, never a part. On an exception the temporary file is removed and `path` is as it was.

    Raises:
        OutputError: the file cannot be written (no space, no permission, a folder stands in the way).
    """
    path = Path(path)
    temporary = path.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("xb") as file:
                with contextlib.suppress(OSError):  # a file system without locks
                    lock(file)
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise OutputError(f"cannot write '{path}': {error.strerror or error}") from error


def remove_leftovers(folder: str | Path) -> int:
    """Remove the temporary files that killed processes left in `folder`; returns how many there were.

    Files that another process is writing at this moment are locked and stay.
    """
    removed = 0
    for path in Path(folder).iterdir():
        if TEMPORARY.fullmatch(path.name):
            with contextlib.suppress(OSError), path.open("rb") as file:
                lock(file)
                path.unlink()
                removed += 1
    return removed


def sha256_of(path: str | Path) -> str:
    """SHA-256 of a file, in hexadecimal digits; read in pieces."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def lock(file: BinaryIO, *, wait: bool = False) -> None:
    """Hold the file for as long as it is open; the system lets go of it when the process dies.

    Args:
        wait: until no other process holds it.

    Raises:
        BlockingIOError: another process holds it.
    """
    if fcntl is not None:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
