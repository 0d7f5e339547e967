"""Plain values that remember where each of them was written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from restore.errors import OptionsError, Problem

__all__ = ["Origin", "Place", "Tree"]

Place = tuple[str | int, ...]


@dataclass(frozen=True)
class Origin:
    """Where a value was written: a file and line, or an override as it stood on the command line."""

    file: str
    line: int | None = None

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


@dataclass
class Tree:
    """Nested dicts and lists with the origin of every entry.

    Attributes:
        values: what was read.
        origins: the origin of each place; the empty place is the file as a whole.
    """

    values: dict[str, Any]
    origins: dict[Place, Origin] = field(default_factory=dict)

    def origin(self, place: Place) -> Origin | None:
        """Where the value at `place` was written; for a value that is missing, where the block around it begins."""
        return next(
            (self.origins[place[:end]] for end in range(len(place), -1, -1) if place[:end] in self.origins), None
        )

    def located(self, problem: Problem) -> Problem:
        """The same problem with the file and line of its dotted path."""
        origin = self.origin(self.place(problem.path))
        if origin is None or problem.file is not None:
            return problem
        return replace(problem, file=origin.file, line=origin.line)

    def place(self, path: str) -> Place:
        """The place that a dotted path names, whose keys may themselves hold dots."""
        place: list[str | int] = []
        values: Any = self.values
        parts = path.split(".") if path else []
        while parts:
            taken, key = next(_candidates(values, parts), (1, parts[0]))
            values = values[key] if _has(values, key) else None
            place.append(key)
            del parts[:taken]
        return tuple(place)

    def value(self, place: Place) -> Any:
        """The value at a place; None where there is none."""
        values: Any = self.values
        for key in place:
            values = values[key] if _has(values, key) else None
        return values

    def pop(self, place: Place) -> tuple[Any, dict[Place, Origin]]:
        """Take an entry of a block out: its value, and the origins of it and of all in it, as `assign` wants them."""
        value = self.value(place)
        self.value(place[:-1]).pop(place[-1])
        return value, {other: self.origins.pop(other) for other in _places(value, place) if other in self.origins}

    def merge(self, child: Tree) -> None:
        """Lay `child` over this tree: blocks are merged key by key, everything else is replaced."""
        if () in child.origins:
            self.origins[()] = child.origins[()]
        self._merge((), self.values, child.values, child)

    def assign(self, place: Place, value: Any, origins: Mapping[Place, Origin]) -> None:
        """Set one value, making the blocks on the way.

        Raises:
            OptionsError: the way leads through something that is neither a block nor an item of a list.
        """
        block: Any = self.values
        here: list[str | int] = []
        for key in place:
            if isinstance(block, list) and str(key).isdecimal() and int(key) < len(block):
                key = int(key)
            elif not isinstance(block, dict):
                within = ".".join(map(str, here))
                message = f"'{within}' is not a block: set the whole of it."
                if isinstance(block, list):
                    message = f"'{within}' is a list of {len(block)}: name an item by its number, counted from 0."
                raise OptionsError([Problem(".".join(map(str, place)), message)])
            here.append(key)
            if len(here) < len(place):
                if isinstance(block, dict) and block.get(key) is None:
                    block[key] = {}
                    self.origins[tuple(here)] = origins[place]
                block = block[key]
        below = {(*here, *other[len(here) :]): origin for other, origin in origins.items()}
        self._replace(block, tuple(here), value, below)

    def _merge(self, place: Place, mine: dict[str, Any], theirs: Mapping[str, Any], child: Tree) -> None:
        for key, value in theirs.items():
            here = (*place, key)
            if isinstance(value, dict) and isinstance(mine.get(key), dict) and not _starts_anew(here, mine[key], value):
                self.origins[here] = child.origins[here]
                self._merge(here, mine[key], value, child)
            else:
                self._replace(mine, here, value, child.origins)

    def _replace(self, block: Any, place: Place, value: Any, origins: Mapping[Place, Origin]) -> None:
        if _has(block, place[-1]):
            for other in _places(block[place[-1]], place):
                self.origins.pop(other, None)
        self.origins |= {other: origins[other] for other in _places(value, place) if other in origins}
        block[place[-1]] = value


def _places(value: Any, place: Place) -> Iterator[Place]:
    """The place of a value, and of everything in it."""
    yield place
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in entries:
        yield from _places(item, (*place, key))


def _starts_anew(place: Place, old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether a block names another component, whose predecessor's arguments mean nothing to it.

    A dataset keeps the rest of its block, most of which describes files and loading.
    """
    return "type" in new and new["type"] != old.get("type") and place[0] != "datasets"


def _has(values: Any, key: str | int) -> bool:
    return key in values if isinstance(values, dict) else isinstance(values, list) and key in range(len(values))


def _candidates(values: Any, parts: list[str]) -> Iterator[tuple[int, str | int]]:
    """(number of parts, key) of the entries of `values` that `parts` may begin with."""
    for taken in range(1, len(parts) + 1):
        name = ".".join(parts[:taken])
        for key in (name, int(name) if name.isdigit() else name):
            if _has(values, key):
                yield taken, key
