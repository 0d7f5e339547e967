"""Rows of an image that come in blocks of any height, as strips of one height, which encoders want."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

__all__ = ["Strips"]


class Strips:
    """Cuts blocks of rows into strips; no more is held than one strip, and nothing of a block after its turn.

    Args:
        rows: of a strip; the last may have fewer.
    """

    def __init__(self, rows: int):
        self._rows = rows
        self._held: np.ndarray | None = None
        self._count = 0

    def cut(self, block: np.ndarray) -> Iterator[np.ndarray]:
        """The strips that a further block of rows completes, (rows, W) or (rows, W, C), valid until the next."""
        first = 0
        while (missing := self._rows - self._count) <= len(block) - first:
            if self._count:
                self._hold(block[first : first + missing])
                yield from self.rest()
            else:
                yield block[first : first + missing]
            first += missing
        if first < len(block):
            self._hold(block[first:])

    def rest(self) -> Iterator[np.ndarray]:
        """The rows that complete no strip, if there are any."""
        count, self._count = self._count, 0
        if self._held is not None and count:
            yield self._held[:count]

    def _hold(self, rows: np.ndarray) -> None:
        if self._held is None:
            self._held = np.empty((self._rows, *rows.shape[1:]), rows.dtype)
        self._held[self._count : self._count + len(rows)] = rows
        self._count += len(rows)
