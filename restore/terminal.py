"""What is said on a terminal, and what is written for people to open: text that does no more than be read.

The name of a file may hold anything: escape sequences that recolour or retitle a terminal, a carriage return that
overwrites the line before, formulas of a spreadsheet, tags of a web page. It is shown, and nothing of it happens.
"""

from __future__ import annotations

import copy
import csv
import functools
import io
import json
import logging
import math
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

__all__ = [
    "VisibleFormatter",
    "be_quiet",
    "csv_text",
    "is_quiet",
    "markdown_cell",
    "one_line",
    "open_console",
    "plain",
    "tell",
    "tell_json",
    "visible",
]

# C0 but for tab and line feed, DEL and C1; marks and overrides of the direction of writing, line and paragraph
# separators; halves of surrogate pairs, which stand for bytes that are no text
_INVISIBLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_quiet = False
_MARKS = {"&": "&amp;", "<": "&lt;", ">": "&gt;", **{mark: f"\\{mark}" for mark in "\\`*[]|"}}


def visible(text: str) -> str:
    """`text` with its control characters, but for line feeds and tabs, as they are written in Python: `\\x1b`."""
    return _INVISIBLE.sub(_escaped, text)


def one_line(text: str) -> str:
    """`visible` text on one line: line feeds and tabs are written like the others."""
    return visible(text).replace("\n", "\\n").replace("\t", "\\t")


def be_quiet(quiet: bool) -> None:
    """From now on say nothing that is neither asked for nor wrong, or say it again."""
    global _quiet
    _quiet = quiet


def is_quiet() -> bool:
    """Whether nothing is said that is neither asked for nor wrong."""
    return _quiet


def tell(text: str, *, out: bool = False, always: bool = False) -> None:
    """Write lines on standard error, or on standard output where the text is what was asked for.

    Args:
        text: the lines.
        out: on standard output.
        always: also where `be_quiet` was asked for, as what is on standard output.
    """
    if out or always or not _quiet:
        (sys.stdout if out else sys.stderr).write(f"{visible(text)}\n")


def tell_json(value: Any) -> None:
    """Write one JSON document on standard output."""
    sys.stdout.write(json.dumps(plain(value), indent=2, allow_nan=False) + "\n")


def plain(value: Any) -> Any:
    """`value` as JSON can hold it: infinities and not-a-number as texts, paths too, all the way down."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
    return str(value) if isinstance(value, os.PathLike) else value


def open_console(**options: Any) -> Console:
    """A rich console that shows control characters: those of its own are written behind that."""
    return _console_class()(**options)


class VisibleFormatter(logging.Formatter):
    """Formats log records; texts and paths that were put into a message stay on its line."""

    def format(self, record: logging.LogRecord) -> str:
        """The text of a record."""
        record = copy.copy(record)
        if isinstance(record.args, tuple):
            record.args = tuple(
                one_line(str(value)) if isinstance(value, (str, os.PathLike)) else value for value in record.args
            )
        return visible(super().format(record))


def csv_text(rows: Iterable[Sequence[Any]]) -> str:
    """Rows as CSV. A text that a spreadsheet would take for a formula begins with an apostrophe; numbers stay."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([_harmless(cell) for cell in row] for row in rows)
    return text.getvalue()


def markdown_cell(text: str) -> str:
    """A text in a cell of a Markdown table: what would be a tag, a mark or another cell is shown as it is written."""
    return "".join(_MARKS.get(mark, mark) for mark in one_line(text))


def _escaped(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode("ascii")


def _harmless(cell: Any) -> Any:
    if isinstance(cell, str) and cell.startswith(_FORMULA) and not _is_number(cell):
        return f"'{cell}"
    return cell


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


@functools.cache
def _console_class() -> type[Console]:
    from rich.console import Console
    from rich.segment import Segment

    class VisibleConsole(Console):
        def render(self, renderable: Any, options: Any = None) -> Iterable[Any]:
            for segment in super().render(renderable, options):
                yield segment if segment.control else Segment(visible(segment.text), segment.style)

        def on_broken_pipe(self) -> None:
            raise

    return VisibleConsole
