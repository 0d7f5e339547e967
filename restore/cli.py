"""The `restore` command: finds the sub-command, runs it, and turns every outcome into an exit code.

Exit codes: 0 done; 1 some inputs failed (named in the summary, the rest are done); 2 wrong options or inputs (one clear
message; the traceback only with `--debug`); 130 interrupted by Ctrl-C or SIGTERM, everything finished so far is kept;
141 nobody reads the output any more, as for every program in a pipe.

A command NAME lives in `restore/commands/NAME.py` and offers `add_arguments(parser)` and `run(arguments) -> int`; only
the one that was asked for is imported, so `restore --help` is immediate.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import io
import logging
import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Any, TextIO

from restore import __version__
from restore.allocator import keep_freed_memory
from restore.commands import COMMANDS, GROUPED
from restore.commands.parser import command_parser
from restore.errors import RestoreError, nearest
from restore.terminal import VisibleFormatter, be_quiet, tell
from restore.waiting import sleep_while_waiting

__all__ = ["COMMANDS", "guarded", "main"]

INTERRUPTED, NOBODY_READS = 130, 141


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the `restore` command; returns the exit code."""
    try:
        with _interruptible() as interruptions:
            try:
                code = _dispatched(argv)
                sys.stdout.flush()  # while a reader that has gone can still be told from an error
            except BrokenPipeError:
                raise
            except Exception:
                if not interruptions:
                    raise
                code = INTERRUPTED
        if code and interruptions:  # a library that was being imported, say, made another error of it
            raise interruptions[0]
        return code
    except KeyboardInterrupt:
        _complain("interrupted: everything finished so far is kept.")
        return INTERRUPTED
    except BrokenPipeError:
        if not _nobody_reads():
            raise
        return NOBODY_READS


def _dispatched(argv: Sequence[str] | None) -> int:
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0].startswith("-"):
        top = _top_parser()
        top.parse_args(arguments)
        top.print_help()
        return 0
    length = 2 if " ".join(arguments[:2]) in COMMANDS else 1
    name = " ".join(arguments[:length])
    if name not in COMMANDS or " " in arguments[0]:
        _complain(f"unknown command '{name}'.{nearest(name, COMMANDS)} `restore --help` lists them.")
        return 2
    command, parser = command_parser(name, COMMANDS[name])
    parsed = parser.parse_args(arguments[length:])
    keep_freed_memory()
    sleep_while_waiting()
    be_quiet(parsed.quiet)
    return guarded(lambda: _run(command, parsed), debug=parsed.debug, quiet=parsed.quiet)


def _run(command: Any, parsed: argparse.Namespace) -> int:
    if parsed.plugin:
        from restore.plugins import load_plugin

        for file in parsed.plugin:
            load_plugin(file)
    done: int = command.run(parsed)
    return done


def guarded(job: Callable[[], int | None], *, debug: bool = False, quiet: bool = False) -> int:
    """Run `job` and return its exit code, with every expected failure as one message on standard error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names of files are not always UTF-8
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(VisibleFormatter("%(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # what is wrong with a file is said by our errors
    level = logging.DEBUG if debug else logging.WARNING if quiet else logging.INFO
    logging.getLogger("restore").setLevel(level)  # not those of libraries
    try:
        return job() or 0
    except RestoreError as error:
        if debug:
            raise
        _complain(str(error))
        return 2
    except BrokenPipeError:
        raise
    except OSError as error:
        if debug or error.errno not in _DISK_ERRORS:
            raise
        _complain(f"{error.filename or 'output'}: {_DISK_ERRORS[error.errno]}")
        return 2


_DISK_ERRORS = {
    errno.ENOSPC: "the disk is full. Free some space and run the same command again.",
    errno.EDQUOT: "the disk quota is used up. Free some space and run the same command again.",
    errno.EACCES: "no permission. Choose another folder, or ask for it.",
    errno.EPERM: "no permission. Choose another folder, or ask for it.",
    errno.ENAMETOOLONG: "this name is too long for the file system. Choose a shorter one.",
    errno.EROFS: "this file system is read-only. Choose another folder.",
}


def _complain(message: str) -> None:
    tell(f"error: {message}", always=True)


class _Interruption(KeyboardInterrupt):
    """Of a kind of its own: after one of Python's own in the middle of `exec`, Python itself ends by that signal."""


@contextlib.contextmanager
def _interruptible() -> Iterator[list[_Interruption]]:
    """Inside, SIGTERM is what Ctrl-C is: schedulers and containers send it to end a process. Yields those that came."""
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    if threading.current_thread() is not threading.main_thread():
        usual = {}
    changed = {number: handler for number, handler in usual.items() if signal.getsignal(number) == handler}

    came: list[_Interruption] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        came.append(_Interruption())
        raise came[-1]

    for number in changed:
        signal.signal(number, interrupt)
    try:
        yield came
    finally:
        for number, handler in changed.items():
            signal.signal(number, handler)


def _nobody_reads() -> bool:
    """Whether the reader of an output has gone; what is still to be written there then goes nowhere."""
    gone = [stream for stream in (sys.stdout, sys.stderr) if _is_broken(stream)]
    for stream in gone:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    return bool(gone)


def _is_broken(stream: TextIO) -> bool:
    try:
        number = stream.fileno()
    except (AttributeError, OSError, ValueError):  # none, or one that is no file
        return False
    if not hasattr(select, "poll"):  # Windows
        return True
    poll = select.poll()
    poll.register(number, 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def _top_parser() -> argparse.ArgumentParser:
    listing = "\n\n".join(
        f"{title}:\n" + "\n".join(f"  {name:<14} {about}" for name, about in group.items())
        for title, group in GROUPED.items()
    )
    parser = argparse.ArgumentParser(
        prog="restore",
        usage="restore COMMAND [options]",
        description="Image restoration and image quality transformers.",
        epilog=f"{listing}\n\n`restore COMMAND --help` describes one.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=__version__)
    return parser


if __name__ == "__main__":
    sys.exit(main())
