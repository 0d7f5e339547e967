"""Files: paths as people write them, text as programs write it, writing so that nobody ever sees half of a file."""

from __future__ import annotations

import codecs
import contextlib
import hashlib
import os
import re
import shutil
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from restore.errors import OutputError
from restore.locks import take

__all__ = [
    "atomic_write",
    "encoded",
    "expanded",
    "inside",
    "means_file",
    "name_problem",
    "path_problem",
    "real_path",
    "remove_leftovers",
    "scratch_folder",
    "sha256_of",
    "text_of",
]

TEMPORARY = re.compile(r"\.[0-9a-f]{32}\.tmp")
LOCK = ".lock"  # in a temporary folder
_BLOCK_BYTES = 1 << 20
FILE_ENDING = re.compile(r"\.(?=(?:\d*[a-z]){2})[a-z0-9]{2,5}", re.IGNORECASE)  # .heic, .jp2; not .v2, .2024
_LONGEST_NAME, _LONGEST_PATH = 255, 4096
_ROOM = 80  # for what is put before and behind a name
_BEING_RENAMED_S = 60.0
_tidied: set[str] = set()
_tidying = threading.Lock()


def expanded(path: str | Path) -> Path:
    """A path with `~` for one's home, `~name` for that of a user; what is there by that very name is itself."""
    path = Path(path)
    if not path.parts or not path.parts[0].startswith("~") or os.path.lexists(path):
        return path
    try:
        return path.expanduser()
    except RuntimeError:  # there is no such user
        return path


def means_file(output: str | Path) -> bool:
    """Whether a name to write to is that of a file: it ends as one, is no folder, and has no slash behind it."""
    is_folder = str(output).endswith(("/", os.sep)) or expanded(output).is_dir()
    return not is_folder and FILE_ENDING.fullmatch(expanded(output).suffix) is not None


def text_of(path: str | Path, *, errors: str = "strict") -> str:
    """What is in a text file in UTF-8 or UTF-16, with a byte order mark or without: all that editors and shells write.

    Args:
        path: the file.
        errors: what to do with bytes that are not UTF-8; "surrogateescape" for names of files, which may be anything.

    Raises:
        UnicodeDecodeError: it is neither.
    """
    data = Path(path).read_bytes()
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16")
    if b"\0" in data:  # of which UTF-8 text has none: each letter of the Latin alphabet has one in UTF-16
        if 8 * data.count(0) < len(data):
            place = data.index(0)
            raise UnicodeDecodeError("utf-8", data, place, place + 1, "a NUL byte")
        return data.decode("utf-16-le" if data[1::2].count(0) > data[::2].count(0) else "utf-16-be")
    return data.decode("utf-8-sig", errors)


def encoded(text: str) -> bytes:
    """Text as UTF-8; of a file name that is none, each byte that does not fit as an escape such as \\udce9."""
    return text.encode("utf-8", "backslashreplace")


def real_path(path: str | Path) -> Path:
    """The path without links; one whose links go in a circle is followed as far as they lead."""
    return Path(os.path.realpath(path))


def path_problem(text: str) -> str:
    """Why a text cannot be the path of a file on any system in use; empty where it can."""
    try:
        encoded_text = os.fsencode(text)
    except UnicodeEncodeError:
        return "it holds a character that no name has"
    if "\0" in text:
        return "it holds a character that no name has"
    if max(map(len, re.split(rb"[/\\]", encoded_text))) > _LONGEST_NAME or len(encoded_text) > _LONGEST_PATH:
        return f"it is too long: a name may have {_LONGEST_NAME} bytes, a path {_LONGEST_PATH:,}"
    return ""


def name_problem(text: str) -> str:
    """Why a text cannot be the name of a file or folder, or a part of it; empty where it can."""
    if not text.strip() or text in (".", "..") or any(mark in text for mark in "/\\"):
        return "it is not a name: not empty, no '..', no '/'"
    if not text.isprintable():
        return "it holds a character that no name has"
    return path_problem(text + " " * _ROOM)


def inside(folder: Path, *parts: str) -> Path:
    """The path of `parts` in `folder`.

    Raises:
        OutputError: it would lead out of the folder.
    """
    path = folder.joinpath(*parts)
    if not Path(os.path.normpath(path)).is_relative_to(os.path.normpath(folder)):
        raise OutputError(f"'{'/'.join(parts)}' leads out of '{folder}': nothing is written there.")
    return path


@contextlib.contextmanager
def atomic_write(path: str | Path) -> Iterator[BinaryIO]:
    """Open a temporary file beside `path` for writing; on success it takes the name `path` in one step.

    Missing folders are made, and what killed processes left in the folder is removed. The bytes reach the disk before
    the name does, so a crash at any moment leaves the old file or the new one, never a part. On an exception the
    temporary file is removed and `path` is as it was.

    Raises:
        OutputError: the file cannot be written (no space, no permission, a folder stands in the way).
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _tidy_once(path.parent)
        temporary, file = _new_file(path.parent)
        try:
            with file:
                yield file
                file.flush()
                os.fsync(file.fileno())
                if sys.platform != "win32":  # which renames no file that is open
                    temporary.replace(path)  # while it is held: after that it looks like a leftover
            if sys.platform == "win32":
                temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise OutputError(f"cannot write '{path}': {error.strerror or error}") from error


@contextlib.contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """A temporary folder in `parent`, from which what is finished can be renamed to its place; removed in the end.

    `parent` is made, and what killed processes left in it is removed.

    Raises:
        OSError: it cannot be written.
    """
    parent.mkdir(parents=True, exist_ok=True)
    _tidy_once(parent)
    folder, file = _new_folder(parent)
    try:
        with file:
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove_leftovers(folder: str | Path) -> int:
    """Remove the temporary files and folders that killed processes left in `folder`; returns how many there were.

    What another process is writing at this moment is locked and stays.
    """
    found = [Path(entry.path) for entry in os.scandir(folder) if TEMPORARY.fullmatch(entry.name)]
    return sum(_removed(path) for path in found)


def sha256_of(path: str | Path) -> str:
    """SHA-256 of a file, in hexadecimal digits; read in pieces."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _tidy_once(folder: Path) -> None:
    """Remove the leftovers in a folder, the first time that this process writes there."""
    key = str(folder.absolute())
    with _tidying:
        if key in _tidied:
            return
        _tidied.add(key)
    with contextlib.suppress(OSError):  # it may be written, and not be listed
        remove_leftovers(folder)


def _removed(path: Path) -> bool:
    """Whether a temporary file or folder was nobody's, and is gone."""
    with contextlib.suppress(OSError):
        if sys.platform == "win32" and time.time() - path.stat().st_mtime < _BEING_RENAMED_S:
            return False  # a file is closed there before it gets its name; one that is open cannot be removed
        if path.is_dir():
            with (path / LOCK).open("ab") as file:
                if not take(file.fileno()):
                    return False
                shutil.rmtree(path, ignore_errors=True)
            shutil.rmtree(path, ignore_errors=True)  # where the lock could not be removed while it was open
        elif sys.platform == "win32":
            path.unlink()
        else:
            with path.open("r+b") as file:
                if take(file.fileno()):
                    path.unlink()
        return not path.exists()
    return False


def _new_file(folder: Path) -> tuple[Path, BinaryIO]:
    """A new temporary file, open and held."""
    while True:
        path = folder / f".{uuid.uuid4().hex}.tmp"
        file = path.open("xb")
        if _is_ours(path, file):
            return path, file


def _new_folder(folder: Path) -> tuple[Path, BinaryIO]:
    """A new temporary folder, and the open file in it that holds it."""
    while True:
        path = folder / f".{uuid.uuid4().hex}.tmp"
        path.mkdir()
        with contextlib.suppress(FileNotFoundError):
            file = (path / LOCK).open("ab")
            if _is_ours(path / LOCK, file):
                return path, file


def _is_ours(path: Path, file: BinaryIO) -> bool:
    """Hold a new file; false where another process took it for a leftover before that."""
    if sys.platform == "win32" and path.name != LOCK:
        return True
    with contextlib.suppress(OSError):
        take(file.fileno())
        if os.path.samestat(os.fstat(file.fileno()), path.stat()):
            return True
    file.close()
    return False
