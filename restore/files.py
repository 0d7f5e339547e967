"""Files: paths as people write them, text as programs write it, writing so that nobody ever sees half of a file."""

from __future__ import annotations

import codecs
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

__all__ = ["atomic_write", "expanded", "lock", "remove_leftovers", "sha256_of", "text_of"]

_BLOCK_BYTES = 1 << 20
TEMPORARY = re.compile(r"\.[0-9a-f]{32}\.tmp")


def expanded(path: str | Path) -> Path:
    """A path with `~` for one's home, `~name` for that of a user; what is there by that very name is itself."""
    path = Path(path)
    if not path.parts or not path.parts[0].startswith("~") or os.path.lexists(path):
        return path
    try:
        return path.expanduser()
    except RuntimeError:  # there is no such user
        return path


def text_of(path: str | Path) -> str:
    """What is in a text file in UTF-8 or UTF-16, with a byte order mark or without: all that editors and shells write.

    Raises:
        UnicodeDecodeError: it is neither.
    """
    data = Path(path).read_bytes()
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16")
    if b"\0" in data:  # of which UTF-8 text has none: each letter of the Latin alphabet has one in UTF-16
        return data.decode("utf-16-le" if data[1:2] == b"\0" else "utf-16-be")
    return data.decode("utf-8-sig")


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
