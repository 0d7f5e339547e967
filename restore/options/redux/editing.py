"""Reads and changes a tree of option values by dotted paths, and keeps the lines of what is moved."""

from __future__ import annotations

import copy
import fnmatch
from collections.abc import Mapping, Sequence
from typing import Any

from restore.errors import Problem
from restore.options.tree import Origin, Place, Tree

__all__ = ["Editor", "is_number", "is_one_of"]

_TRUTH = {"yes": True, "on": True, "true": True, "no": False, "off": False, "false": False}


class Editor:
    """A tree, as it was and as it becomes.

    Attributes:
        problems: mistakes so far, each with its file and line.
    """

    def __init__(self, tree: Tree):
        self.tree = tree
        self.original = Tree(copy.deepcopy(tree.values), dict(tree.origins))
        self.problems: list[Problem] = []

    def get(self, path: str, otherwise: Any = None) -> Any:
        """The value at a path; `otherwise` where there is none, or null."""
        value = self.tree.value(tuple(path.split(".")))
        return otherwise if value is None else value

    def has(self, path: str) -> bool:
        """Whether there is a value at a path, null included."""
        block, _, key = path.rpartition(".")
        values = self.get(block) if block else self.tree.values
        return isinstance(values, dict) and key in values

    def flag(self, path: str, *, default: bool = False) -> bool:
        """A value that must be true or false."""
        value = self.get(path, default)
        if not isinstance(value, bool) and str(value).lower() not in _TRUTH:
            self.complain(path, f"must be true or false; given: {value!r}.")
            return default
        return value if isinstance(value, bool) else _TRUTH[value.lower()]

    def blocks(self, path: str) -> list[str]:
        """The keys of the blocks in a block."""
        block = self.get(path)
        return [key for key, value in block.items() if isinstance(value, dict)] if isinstance(block, dict) else []

    def matching(self, patterns: Sequence[str]) -> list[str]:
        """The paths that match a pattern: a key with wildcards, in a block or in every dataset (`datasets.*.key`)."""
        found = []
        for pattern in patterns:
            block, _, key = pattern.rpartition(".")
            blocks = [f"datasets.{name}" for name in self.blocks("datasets")] if block == "datasets.*" else [block]
            for each in blocks:
                values = self.get(each) if each else self.tree.values
                inside = fnmatch.filter(map(str, values), key) if isinstance(values, dict) else []
                found += [f"{each}.{name}" if each else name for name in inside]
        return found

    def take(self, path: str) -> Any:
        """Take a value out, if it is there."""
        return self.tree.pop(tuple(path.split(".")))[0] if self.has(path) else None

    def put(self, path: str, value: Any) -> None:
        """Replace a value that is there, whose line stays."""
        place: Place = tuple(path.split("."))
        self.tree.value(place[:-1])[place[-1]] = value

    def give(
        self, path: str, value: Any, *, of: str = "", renamed: Mapping[str, str] | None = None, instead: bool = False
    ) -> None:
        """Set a value, unless the file has it under our name already.

        Args:
            path: the key here.
            value: what it gets.
            of: the path in the file that it follows from, for messages.
            renamed: names of its entries here, by those in the file.
            instead: also where there is one.
        """
        if self.has(path) and not instead:
            return
        place: Place = tuple(path.split("."))
        before = self.original.place(of)
        origins = {place: self.origin(of)}
        for other, origin in self.original.origins.items():
            if of and len(other) > len(before) and other[: len(before)] == before:
                first, *inner = other[len(before) :]
                origins[(*place, (renamed or {}).get(str(first), first), *inner)] = origin
        self.tree.assign(place, value, origins)

    def move(self, path: str, to: str) -> None:
        """Give a value another path, if it is there."""
        if self.has(path):
            self.give(to, self.take(path), of=path)

    def rename(self, path: str, table: Mapping[str, str]) -> None:
        """Replace a name, written in any case, by ours."""
        name = self.get(path)
        if isinstance(name, str):
            self.put(path, table.get(name.lower(), name))

    def origin(self, path: str) -> Origin:
        """Where a value was written; for one that is not in the file, where the block around it begins."""
        origin = self.original.origin(self.original.place(path))
        assert origin is not None, "the whole file has one"
        return origin

    def complain(self, path: str, message: str) -> None:
        """Note a mistake at a path of the file."""
        self.problems.append(self.original.located(Problem(path, message)))


def is_one_of(value: Any, values: Sequence[Any]) -> bool:
    """Whether a value is in a list; 0 is not false, but it is 0.0."""
    return any(
        value == each and (type(value) is type(each) or (is_number(value) and is_number(each))) for each in values
    )


def is_number(value: Any) -> bool:
    """Whether a value is a number; true and false are none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)
