"""YAML from anywhere: read up to a bound, since a few bytes may stand for billions of values or endless depth."""

from __future__ import annotations

from typing import Any

import yaml

__all__ = ["BoundedLoader", "TooMuchError", "load_bounded"]

MOST_VALUES, DEEPEST = 5000, 30
"""Far more than any option file, recipe or card has."""


class TooMuchError(yaml.MarkedYAMLError):
    """There is more in a file than any has; the rest of it is not looked at."""

    def __init__(self, message: str, mark: Any = None):
        super().__init__(problem=message, problem_mark=mark)

    @property
    def line(self) -> int | None:
        """The line where it was too much, counted from 1."""
        return self.problem_mark.line + 1 if self.problem_mark else None


class BoundedLoader(yaml.SafeLoader):
    """PyYAML's safe loader, which counts: what an alias stands for each time, and how deep a value lies."""

    def __init__(self, stream: str):
        super().__init__(stream)
        self._depth = self._count = 0
        self._sizes: dict[int, int] = {}

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """The next node; PyYAML's own name.

        Raises:
            TooMuchError: there are too many values, or they lie too deep, or an alias never ends.
        """
        event, before = self.peek_event(), self._count
        is_alias = isinstance(event, yaml.AliasEvent)
        self._count += 1
        self._depth += 1
        self._require_bounded(event)
        node = super().compose_node(parent, index)
        self._depth -= 1
        if is_alias and id(node) not in self._sizes:
            raise TooMuchError(f"the alias *{event.anchor} stands for what it is in: it never ends", event.start_mark)
        if is_alias:
            self._count += self._sizes[id(node)]
            self._require_bounded(event)
        self._sizes.setdefault(id(node), self._count - before)
        return node

    def _require_bounded(self, event: Any) -> None:
        if self._count > MOST_VALUES:
            raise TooMuchError(f"more than {MOST_VALUES:,} values: far too many", event.start_mark)
        if self._depth > DEEPEST:
            raise TooMuchError(f"nested more than {DEEPEST} levels deep", event.start_mark)


def load_bounded(text: str) -> Any:
    """The plain values of a YAML document.

    Raises:
        yaml.YAMLError: it is no YAML, holds more than plain values, or more of them than any file has.
    """
    try:
        return yaml.load(text, Loader=BoundedLoader)
    except (ValueError, OverflowError) as error:  # a number of thousands of digits, a day that no month has
        raise yaml.YAMLError(str(error)[:100]) from None
