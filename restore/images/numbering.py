"""Names of numbered files: `frames/%05d.png`."""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path

from restore.errors import DataError, OptionsError
from restore.files import expanded
from restore.images.formats import readable_suffixes

__all__ = ["Numbering"]

PLACEHOLDER = re.compile(r"%(?:0\d+)?d")
logger = logging.getLogger(__name__)


class Numbering:
    """The names that a pattern stands for: `%05d` is a number of five digits, `%d` one without leading zeros.

    Args:
        pattern: a path whose file name holds one placeholder.

    Raises:
        OptionsError: it holds another number of them, or the ending is not one of an image.
    """

    def __init__(self, pattern: str | Path):
        self.pattern = expanded(pattern)
        if len(PLACEHOLDER.findall(self.pattern.name)) != 1:
            raise OptionsError(f"'{pattern}': a numbered file name holds one placeholder, such as %05d.")
        if self.pattern.suffix.lower() not in readable_suffixes():
            raise OptionsError(f"'{pattern}': numbered files are images; end the name with .png, for example.")

    @staticmethod
    def is_one(path: str | Path) -> bool:
        """Whether a path is meant as a pattern; what exists under that very name, or ends in /, is itself."""
        name, path = str(path), expanded(path)
        return bool(PLACEHOLDER.search(path.name)) and not name.endswith(("/", os.sep)) and not path.exists()

    def path(self, number: int) -> Path:
        """The file of a number."""
        before, after = PLACEHOLDER.split(self.pattern.name)
        digits = PLACEHOLDER.search(self.pattern.name)[0] % number
        return self.pattern.with_name(f"{before}{digits}{after}")

    def find(self) -> dict[int, Path]:
        """The files that are there, by their numbers, in order.

        Raises:
            DataError: there is none.
        """
        before, after = (re.escape(part) for part in PLACEHOLDER.split(self.pattern.name))
        named = re.compile(f"{before}([0-9]+){after}")
        folder = self.pattern.parent
        matches = (named.fullmatch(path.name) for path in (folder.iterdir() if folder.is_dir() else ()))
        numbers = sorted({int(match[1]) for match in matches if match})
        found = {number: path for number in numbers if (path := self.path(number)).is_file()}
        if not found:
            raise DataError(f"there is no file '{self.pattern}' (such as '{self.path(1)}').")
        missing = [number for number in range(min(found), max(found)) if number not in found]
        if missing:
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            logger.warning("'%s': number %d%s is missing, and skipped.", self.pattern, missing[0], more)
        return found
