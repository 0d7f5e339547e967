"""The folder of a run, and the log in it, which begins before the folder is there."""

from __future__ import annotations

import contextlib
import itertools
import logging
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from logging.handlers import MemoryHandler
from pathlib import Path

from restore.errors import RestoreError

__all__ = ["RunFolder", "RunLog"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunFolder:
    """Where a run leaves its files.

    Attributes:
        root: `experiments/NAME`.
        tb_logger: `tb_logger/NAME`.
        options: text of the resolved options, of which a copy is kept.
    """

    root: Path
    tb_logger: Path
    options: str

    def open(self, *, fresh: bool) -> None:
        """Make the folder, with a copy of the options; at a fresh start, an older one is moved away."""
        for folder in (self.root, self.tb_logger):
            if fresh and folder.exists():
                moved = _moved_away(folder, f"archived_{_now()}")
                log.warning("%s was there: moved to %s", folder, moved.name)
        self.root.mkdir(parents=True, exist_ok=True)
        (self.root / f"{self.root.name}.yml").write_text(self.options, encoding="utf-8")

    def log_file(self) -> Path:
        """A log file for a process that begins now."""
        return self.root / f"train_{self.root.name}_{_now()}.log"


class RunLog:
    """Keeps what the package says until there is a file to write it to; errors too.

    Args:
        is_main: whether this is the process whose words are kept; the others only warn.
    """

    def __init__(self, is_main: bool = True):
        self.is_main = is_main
        self._kept = MemoryHandler(capacity=10_000, flushLevel=logging.CRITICAL + 1)

    @contextlib.contextmanager
    def listening(self) -> Iterator[RunLog]:
        """Inside, everything is kept or written."""
        logger, kept = logging.getLogger("restore"), self._kept
        if self.is_main:
            logger.addHandler(kept)
        else:
            logger.setLevel(logging.WARNING)
        try:
            yield self
        except RestoreError as error:
            if kept.target is not None:
                kept.target.handle(logging.makeLogRecord({"levelname": "ERROR", "msg": str(error)}))
            raise
        finally:
            logger.removeHandler(kept)
            if kept.target is not None:
                with contextlib.suppress(OSError):  # what could not be written cannot be now
                    kept.target.close()
            kept.close()

    def write_to(self, path: Path) -> None:
        """Write what was kept, and everything from here on at once."""
        file = _LogFile(path, encoding="utf-8", errors="backslashreplace")
        file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s: %(message)s"))
        self._kept.setTarget(file)
        self._kept.flushLevel = logging.NOTSET
        self._kept.flush()


class _LogFile(logging.FileHandler):
    """A log file that says once that it cannot be written, and lets the run go on."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the name is logging's
        """Called where a line could not be written: the disk is full, say."""
        if self.level < logging.CRITICAL:
            self.setLevel(logging.CRITICAL + 1)
            log.warning("the log file %s cannot be written: %s", self.baseFilename, sys.exc_info()[1])


def _now() -> str:
    return time.strftime("%Y%m%d_%H%M%S")


def _moved_away(folder: Path, mark: str) -> Path:
    """Rename a folder, by a mark and if need be a number behind its name; returns its new path."""
    for number in itertools.count():
        moved = folder.with_name(f"{folder.name}_{mark}{f'_{number}' if number else ''}")
        if not moved.exists():
            return folder.rename(moved)
    raise AssertionError("counting never ends")
