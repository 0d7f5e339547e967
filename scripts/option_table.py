"""Prints which option files of a folder load, and of the others what is refused: one row for each message.

    python scripts/option_table.py ~/HAT/options            # each file: it loads, or what must be written instead
    python scripts/option_table.py ~/forks --by-message     # each message once, with the number of its files

Files that another repository wrote for BasicSR's schema show what its users meet here; nothing is built or read but the
files themselves.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import re
import sys
from collections import defaultdict
from pathlib import Path

from restore.errors import OptionsError, RestoreError
from restore.options import load
from restore.terminal import markdown_cell

LOADS = "loads"


def main() -> None:
    """Print the table as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--by-message", action="store_true", help="one row for each message, the most frequent first")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    files = sorted(path for path in arguments.folder.rglob("*") if path.suffix in (".yml", ".yaml"))
    rows = [(path.relative_to(arguments.folder), message) for path in files for message in messages(path)]
    if arguments.by_message:
        found: defaultdict[str, list[Path]] = defaultdict(list)
        for path, message in rows:
            found[message].append(path)
        table = [(str(len(paths)), message, str(paths[0])) for message, paths in found.items()]
        _print("files | message | the first", sorted(table, key=lambda row: -int(row[0])))
    else:
        _print("file | loads, or is refused with", [(str(path), message) for path, message in rows])
    loading = sum(message == LOADS for _, message in rows)
    sys.stderr.write(f"{loading} of {len(files)} files load\n")


def messages(path: Path) -> list[str]:
    """What reading a file comes to: that it loads, or every mistake without its line."""
    try:
        with contextlib.redirect_stderr(None):
            load(path)
    except OptionsError as error:
        return [re.sub(r"\s+", " ", f"{problem.path}: {problem.message}") for problem in error.problems]
    except RestoreError as error:
        return [str(error)]
    return [LOADS]


def _print(heading: str, rows: list[tuple[str, ...]]) -> None:
    print(f"| {heading} |\n|{'---|' * (heading.count('|') + 1)}")
    for row in rows:
        print(f"| {' | '.join(map(markdown_cell, row))} |")


if __name__ == "__main__":
    main()
