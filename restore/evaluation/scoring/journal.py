"""scores.jsonl: every image's values on a line of its own as soon as they are known, so that no run starts over.

A line holds the files with their sizes and times of modification, and each value under the exact options of its metric.
It counts only while all of that is as it was; another metric or protocol adds to it.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from restore import __version__
from restore.data.pairs import Pair
from restore.errors import OutputError
from restore.files import atomic_write, encoded, real_path
from restore.terminal import plain

__all__ = ["Entry", "Journal", "key_of"]


@dataclass
class Entry:
    """One line: the files as they were (path, bytes, nanoseconds), the restored image's size, and the values."""

    files: list[list[Any]]
    version: str
    size: list[int]
    values: dict[str, float]
    note: str = ""


def key_of(block: Mapping[str, Any]) -> str:
    """What a value is filed under: the metric with all its options."""
    return json.dumps(block, sort_keys=True)


class Journal:
    """The values of earlier runs, and a file to which this one adds.

    Args:
        path: the file; what cannot be used any more is removed from it.
        pairs: the images of this run.
        forget: what is to be measured again, as `key_of` gives it.

    Raises:
        OutputError: the file cannot be written.
    """

    def __init__(self, path: Path, pairs: list[Pair], *, forget: Collection[str] = ()):
        self.path = path
        self._stamps = {pair.name: _stamps(pair) for pair in pairs}
        stored = _stored(path)
        self._entries = {
            name: entry for name, stamps in self._stamps.items() if (entry := stored.pop(json.dumps(stamps), None))
        }
        for entry in self._entries.values():
            entry.values = {key: value for key, value in entry.values.items() if key not in forget}
        self._beside = self._with_another_reference(stored.values())
        with atomic_write(path) as file:
            file.writelines(_line(entry) for entry in (*self._beside.values(), *self._entries.values()))

    def _with_another_reference(self, entries: Iterable[Entry]) -> dict[str, Entry]:
        """What is known of the images of this run with a reference where it has none, or without one; by name."""
        names = {json.dumps(stamps[0]): name for name, stamps in self._stamps.items()}
        found = {}
        for entry in entries:
            name = names.get(json.dumps(entry.files[0])) if entry.files else None
            if name and len(entry.files) != len(self._stamps[name]) and _are_unchanged(entry.files):
                found[name] = entry
        return found

    def __enter__(self) -> Journal:
        try:
            self._file = self.path.open("ab", buffering=0)
        except OSError as error:
            raise OutputError(f"cannot write '{self.path}': {error.strerror or error}") from error
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._file.close()

    def get(self, pair: Pair) -> Entry | None:
        """What is known about a pair whose files have not changed."""
        return self._entries.get(pair.name)

    def known(self, pair: Pair) -> dict[str, float]:
        """Every value of an image, also of runs with a reference where this one has none, or without one."""
        entries = (self._beside.get(pair.name), self._entries.get(pair.name))
        return {key: value for entry in entries if entry for key, value in entry.values.items()}

    def reference(self, pair: Pair) -> Path | None:
        """The reference of an image in the run that had one, where this one has none."""
        entry = self._beside.get(pair.name)
        return Path(entry.files[1][0]) if entry and len(entry.files) > 1 else None

    def add(self, pair: Pair, size: tuple[int, int], values: Mapping[str, float], note: str) -> None:
        """Keep the values of a pair, beside those that are known already."""
        known = self._entries.get(pair.name)
        merged = {**(known.values if known else {}), **values}
        self._entries[pair.name] = entry = Entry(self._stamps[pair.name], __version__, list(size), merged, note)
        self._file.write(_line(entry))


def _stamps(pair: Pair) -> list[list[Any]]:
    paths = [path for path in (pair.lq, pair.gt) if path is not None]
    return [[str(real_path(path)), *_facts(path)] for path in paths]


def _are_unchanged(files: Iterable[Sequence[Any]]) -> bool:
    return all((size, time) == _facts(Path(path)) for path, size, time in files)


def _facts(path: Path) -> tuple[int, int]:
    """Size and time of change; zeros of a link that leads nowhere, which measuring names."""
    try:
        stat = path.stat()
    except OSError:
        return 0, 0
    return stat.st_size, stat.st_mtime_ns


def _stored(path: Path) -> dict[str, Entry]:
    """The entries of a journal, the last one for each pair; a line that was cut short is left out."""
    entries = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []:
        try:
            entry = Entry(**json.loads(line))
            entry.values = {key: float(value) for key, value in entry.values.items()}
        except (ValueError, TypeError, AttributeError):
            continue
        if entry.version == __version__:
            entries[json.dumps(entry.files)] = entry
    return entries


def _line(entry: Entry) -> bytes:
    return encoded(json.dumps(plain(asdict(entry)), ensure_ascii=False) + "\n")
