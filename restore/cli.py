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
import importlib
import io
import logging
import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Any, NoReturn, TextIO

from restore import __version__
from restore.allocator import keep_freed_memory
from restore.errors import RestoreError, nearest
from restore.terminal import VisibleFormatter, tell, visible

__all__ = ["COMMANDS", "guarded", "main"]

INTERRUPTED, NOBODY_READS = 130, 141

COMMANDS = {
    "demo": "restore six photographs with the shipped model, and write a page to look at",
    "run": "restore a photograph or a folder of them",
    "test": "evaluate a model over datasets, as an option file says",
    "train": "train a model, as an option file says",
    "sweep": "train the same small network with every mixer, and draw quality against cost",
    "score": "measure images against references, or by themselves",
    "data": "check datasets, and prepare them: lmdb databases, sub-images",
    "degrade": "make low-quality versions of photographs, paired with the originals",
    "finetune": "train a model further on your own photographs, and measure what it brought",
    "init": "write an option file that trains on your own folders",
    "options": "list, copy, explain, check or describe option files",
    "submit": "make a challenge submission: restore, time, pack, and check the zip",
    "leaderboard": "score submissions as the organisers do, and keep a table of runs",
    "blend": "write weights between those of two networks",
    "export": "write a model as an ONNX or torch.export file",
    "models": "list the networks and the shipped models",
    "doctor": "show versions, devices, memory and optional parts, and what is wrong with them",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the `restore` command; returns the exit code."""
    try:
        with _interruptible():
            code = _dispatched(argv)
            sys.stdout.flush()  # while a reader that has gone can still be told from an error
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
    top = _top_parser()
    if not arguments or arguments[0].startswith("-"):
        top.parse_args(arguments)
        top.print_help()
        return 0
    name = arguments[0]
    if name not in COMMANDS:
        top.error(f"unknown command '{name}'.{nearest(name, COMMANDS)} Known: {', '.join(COMMANDS)}.")
    parser = _Parser(prog=f"restore {name}")
    command = importlib.import_module(f"restore.commands.{name}")
    command.add_arguments(parser)
    _complete(parser, COMMANDS[name])
    parsed = parser.parse_args(arguments[1:])
    keep_freed_memory()
    return guarded(lambda: _run(command, parsed), debug=parsed.debug)


def _run(command: Any, parsed: argparse.Namespace) -> int:
    if parsed.plugin:
        from restore.plugins import load_plugin

        for file in parsed.plugin:
            load_plugin(file)
    done: int = command.run(parsed)
    return done


def guarded(job: Callable[[], int | None], *, debug: bool = False) -> int:
    """Run `job` and return its exit code, with every expected failure as one message on standard error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names of files are not always UTF-8
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(VisibleFormatter("%(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # what is wrong with a file is said by our errors
    logging.getLogger("restore").setLevel(logging.DEBUG if debug else logging.INFO)  # not those of libraries
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
    tell(f"error: {message}")


class _Interruption(KeyboardInterrupt):
    """Of a kind of its own: after one of Python's own in the middle of `exec`, Python itself ends by that signal."""


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Inside, SIGTERM is what Ctrl-C is: schedulers and containers send it to stop a process."""
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    if threading.current_thread() is not threading.main_thread():
        usual = {}
    changed = {number: handler for number, handler in usual.items() if signal.getsignal(number) == handler}

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise _Interruption

    for number in changed:
        signal.signal(number, interrupt)
    try:
        yield
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


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        super().error(visible(message))


def _top_parser() -> argparse.ArgumentParser:
    listing = "\n".join(f"  {name:<12} {text}" for name, text in COMMANDS.items())
    parser = _Parser(
        prog="restore",
        usage="restore COMMAND [options]",
        description="Image restoration and image quality transformers.",
        epilog=f"commands:\n{listing}\n\n`restore COMMAND --help` describes one.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=__version__)
    return parser


def _complete(parser: argparse.ArgumentParser, about: str, *, is_action: bool = False) -> None:
    """What every command and each of its actions has: a description, defaults in its help, `--debug` and `--plugin`."""
    parser.description = f"{about[0].upper()}{about[1:]}."
    parser.formatter_class = _HelpFormatter
    if parser.get_default("debug") is None:  # `train` and `test` have their own, which means more
        parser.add_argument(
            "--debug",
            action="store_true",
            default=argparse.SUPPRESS if is_action else False,  # what stands before the action counts too
            help="show the traceback of an error and debugging messages",
        )
    parser.add_argument(
        "--plugin",
        action="append",
        metavar="FILE",
        default=argparse.SUPPRESS if is_action else None,
        help="a Python file that registers networks or other components of your own; may be given several times",
    )
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for listed in action._choices_actions:
                _complete(action.choices[listed.dest], listed.help or "", is_action=True)


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Shows a default only where there is one worth showing."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default in (None, False, "", [], argparse.SUPPRESS) or not action.option_strings:
            return action.help
        return super()._get_help_string(action)


if __name__ == "__main__":
    sys.exit(main())
