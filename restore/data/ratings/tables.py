"""Ratings as datasets publish them, and the tables that they are read from."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from restore.errors import DataError
from restore.files import text_of

__all__ = ["Rating", "number", "require_columns", "rows"]


@dataclass(frozen=True)
class Rating:
    """A line of what a dataset publishes: files relative to its root, and values on its own scale."""

    image: str
    value: float
    reference: str | None = None
    kind: str = ""
    deviation: float | None = None
    votes: tuple[float, ...] | None = None


def rows(path: Path, *, delimiter: str = ",") -> Iterator[dict[str, str]]:
    """The lines of a table with a header, by column.

    Raises:
        DataError: there is no such file, or a line has another number of columns.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file.")
    reader = csv.DictReader(io.StringIO(text_of(path), newline=""), delimiter=delimiter, restkey="")
    for row in reader:
        if "" in row or None in row.values():
            raise DataError(f"{path}, line {reader.line_num}: {len(reader.fieldnames or ())} columns are expected.")
        yield row


def number(text: str, path: Path, what: str) -> float:
    """A number of a table.

    Raises:
        DataError: it is none; says where.
    """
    try:
        return float(text)
    except ValueError:
        raise DataError(f"{path}: the rating of {what} is '{text}', which is not a number.") from None


def require_columns(row: Iterable[str], wanted: Iterable[str], path: Path) -> None:
    """Refuse a table without the columns that are needed.

    Raises:
        DataError: names those that are missing and those that there are.
    """
    missing = set(wanted) - set(row)
    if missing:
        raise DataError(f"{path}: no column {', '.join(sorted(missing))}. It has: {', '.join(row)}.")
