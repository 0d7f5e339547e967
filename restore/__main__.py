"""`python -m restore` is the `restore` command, which is quiet when it is interrupted before it has begun."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import threading
from collections.abc import Sequence
from typing import NoReturn

__all__ = ["main", "run"]


def main(argv: Sequence[str] | None = None) -> int:
    """What the `restore` command does; returns the exit code."""
    try:
        from restore.cli import main as command

        return command(argv)
    except KeyboardInterrupt:
        return 130


def run(argv: Sequence[str] | None = None) -> NoReturn:
    """The `restore` program: it ends as the command has."""
    _leave(main(argv))


def _leave(code: int) -> NoReturn:
    """End this process with an exit code, without taking the interpreter apart.

    With torch in it that takes a third of a second and 125 MB, for memory that goes back to the system anyway. What
    waits for the end is done: threads end, functions of `atexit` are called, files are written. Under a debugger or a
    profiler, which have more to do, the process ends as usual.
    """
    if sys.gettrace() or sys.getprofile():
        sys.exit(code)
    try:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(AttributeError, OSError, ValueError):  # there is none, or nobody reads it
                stream.flush()
    except KeyboardInterrupt:
        code = 130
    os._exit(code)


if __name__ == "__main__":
    run()
