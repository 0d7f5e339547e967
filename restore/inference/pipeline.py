"""Reading ahead and writing behind in threads, so that the network in between never waits for a file."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import Generic, TypeVar, cast

__all__ = ["WriteBehind", "drawn_ahead", "read_ahead"]

Item = TypeVar("Item")
Value = TypeVar("Value")


def read_ahead(
    items: Iterable[Item], read: Callable[[Item], Value], pool: Executor, depth: int = 3
) -> Iterator[tuple[Item, Future[Value]]]:
    """Each item with its finished `read(item)`, in order, while up to `depth` further ones are being read."""
    waiting: deque[tuple[Item, Future[Value]]] = deque()
    try:
        for item in items:
            waiting.append((item, pool.submit(read, item)))
            if len(waiting) > depth:
                yield _awaited(waiting.popleft())
        while waiting:
            yield _awaited(waiting.popleft())
    finally:
        for _, future in waiting:
            future.cancel()


def drawn_ahead(items: Iterable[Item], pool: Executor, depth: int = 3) -> Iterator[Item]:
    """`items`, drawn up to `depth` ahead in the one thread of `pool`."""
    iterator, end = iter(items), object()
    for _, future in read_ahead(itertools.repeat(None), lambda _: next(iterator, end), pool, depth):
        item = future.result()
        if item is end:
            return
        yield cast(Item, item)


class WriteBehind(Generic[Item]):
    """Runs writes in a pool; holds its caller up only while more than `depth` of them are unfinished."""

    def __init__(self, pool: Executor, depth: int = 3):
        self._pool, self._depth = pool, depth
        self._waiting: deque[tuple[Item, Future[None]]] = deque()

    def put(self, item: Item, write: Callable[[], None]) -> None:
        """Start `write` in the background; `finished` will tell how it went."""
        self._waiting.append((item, self._pool.submit(write)))

    def finished(self, *, all_of_them: bool = False) -> Iterator[tuple[Item, Future[None]]]:
        """The writes that are done, in order; waits for those beyond the depth, or for all of them."""
        while self._waiting:
            overfull = all_of_them or len(self._waiting) > self._depth
            if not overfull and not self._waiting[0][1].done():
                return
            yield _awaited(self._waiting.popleft())


def _awaited(pair: tuple[Item, Future[Value]]) -> tuple[Item, Future[Value]]:
    pair[1].exception()  # waits; whoever takes the result meets the exception
    return pair
