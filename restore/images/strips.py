"""Rows of an image that come in blocks of any height, as strips of one height, which encoders want."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

__all__ = ["Strips"]


class Strips:
    """Cuts blocks of rows into strips; no more is held than one strip.

    Args:
        rows: of a strip; the last may have fewer.
    """

    def __init__(self, rows: int):
        self._rows = rows
        self._waiting: list[np.ndarray] = []

    def cut(self, block: np.ndarray) -> Iterator[np.ndarray]:
        """The strips that a further block of rows completes, (rows, W) or (rows, W, C)."""
        first = 0
        while (missing := self._rows - sum(map(len, self._waiting))) <= len(block) - first:
            self._waiting.append(block[first : first + missing])
            first += missing
            yield from self.rest()
        if first < len(block):
            self._waiting.append(block[first:])

    def rest(self) -> Iterator[np.ndarray]:
        """The rows that complete no strip, if there are any."""
        waiting, self._waiting = self._waiting, []
        if waiting:
            yield waiting[0] if len(waiting) == 1 else np.concatenate(waiting)
