"""Outputs that one process at a time writes, told apart by locks that the system opens when their holder dies.

    with reserved(folder / "clip.mp4"): ...

The lock of an output is the file `.NAME.lock` beside it, for as long as it is held. It says who holds it, so that the
second process can say for whom it waits, or why it does not begin. Threads of one process exclude each other, too, and
a child process does not inherit what its parent holds.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import logging
import os
import shlex
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from restore.errors import OutputError


def _module(name: str) -> Any:
    """A module that not every system has, or None."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


fcntl, msvcrt = _module("fcntl"), _module("msvcrt")

__all__ = ["reserved", "take"]

logger = logging.getLogger(__name__)

_PATIENCE_S = 0.1
_BUSY = {errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK}  # every other error: no locks on this disk
_NOT_PERMITTED = {errno.EACCES, errno.EPERM, errno.EROFS}
_held: set[int] = set()


@contextlib.contextmanager
def reserved(path: str | Path, *, wait: bool = False) -> Iterator[None]:
    """Keep every other process from writing `path` meanwhile.

    Args:
        path: a file or a folder, which need not be there; folders above it are made, and removed if nothing came in.
        wait: until no other process writes it.

    Raises:
        OutputError: another process writes it, which the message names; or the folder cannot be written.
    """
    path = Path(path)
    path = path.resolve() if path.is_dir() else path.parent.resolve() / path.name
    missing = [folder for folder in path.parents if not folder.exists()]
    try:
        lock, number = _open_lock(path, wait)
    except OutputError:
        raise
    except OSError as error:
        raise OutputError(f"cannot write '{path}': {error.strerror or error}") from error
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            if fcntl is not None:
                lock.unlink()  # while it is held: after that it may be another's
        _close(number)
        with contextlib.suppress(OSError):
            if fcntl is None:
                lock.unlink()  # unless another one has it open by now
        with contextlib.suppress(OSError):  # not empty
            for folder in missing:
                folder.rmdir()


def take(number: int) -> bool:
    """Lock an open file until it is closed; whether that could be done: some file systems have no locks.

    Args:
        number: its descriptor.

    Raises:
        BlockingIOError: another one holds it.
    """
    try:
        if fcntl is not None:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        elif msvcrt is not None:
            os.lseek(number, 0, os.SEEK_SET)
            msvcrt.locking(number, msvcrt.LK_NBLCK, 1)
        else:
            return False
    except OSError as error:
        if error.errno in _BUSY:
            raise BlockingIOError(error.errno, error.strerror) from error
        logger.debug("no locks here: %s", error)
        return False
    return True


def _open_lock(path: Path, wait: bool) -> tuple[Path, int]:
    """The lock of an output, held; in the folder itself, where that alone can be written."""
    try:
        lock = path.with_name(f".{path.name}.lock") if path.name else path / ".lock"
        return lock, _hold(lock, path, wait)
    except OSError as error:
        if error.errno not in _NOT_PERMITTED or not path.is_dir():
            raise
        return path / ".lock", _hold(path / ".lock", path, wait)


def _hold(lock: Path, path: Path, wait: bool) -> int:
    """The descriptor of a lock that nobody else holds, and that is still where others look for it."""
    told = False
    while True:
        try:
            lock.parent.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            raise OutputError(f"cannot make the folder '{lock.parent}': a file of this name is in the way.") from error
        number = os.open(lock, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
        try:
            take(number)
            if _is_there(number, lock):
                _held.add(number)
                with contextlib.suppress(OSError):  # the disk is full
                    _sign(number)
                return number
            os.close(number)  # its holder has removed it
        except BlockingIOError:
            holder = _holder(number)
            os.close(number)
            if not wait:
                raise OutputError(
                    f"'{path}' is being written by another process{holder}: wait for it, stop it, or choose another "
                    "output."
                ) from None
            if not told:
                logger.info("waiting for another process%s, which writes '%s'", holder, path)
                told = True
            time.sleep(_PATIENCE_S)


def _is_there(number: int, lock: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(number), lock.stat())
    except FileNotFoundError:
        return False


def _sign(number: int) -> None:
    """Write who holds the lock, behind its first byte, which no other process can read on Windows."""
    program = Path(sys.argv[0])
    command = shlex.join([program.parent.name if program.stem == "__main__" else program.name, *sys.argv[1:]])
    text = f" (number {os.getpid()} on {socket.gethostname()}, since {time.strftime('%H:%M:%S')}: {command:.200})"
    os.ftruncate(number, 0)
    os.lseek(number, 0, os.SEEK_SET)
    os.write(number, b"\n" + text.encode("utf-8", "backslashreplace"))


def _holder(number: int) -> str:
    os.lseek(number, 1, os.SEEK_SET)
    return os.read(number, 2000).decode("utf-8", "replace")


def _close(number: int) -> None:
    if number in _held:
        _held.remove(number)
        os.close(number)


def _let_go() -> None:
    """In a child process: its parent's locks are not held by it."""
    for number in list(_held):
        _close(number)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)
