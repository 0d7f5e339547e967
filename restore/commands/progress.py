"""The progress bar that commands share."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

__all__ = ["ProgressBar"]


class ProgressBar:
    """A progress bar on a terminal; nothing elsewhere. Entering it gives the function that advances it."""

    def __init__(self, description: str, total: int | None):
        from rich.console import Console
        from rich.markup import escape
        from rich.progress import Progress

        console = Console(stderr=True)
        self._progress = Progress(console=console, transient=True, disable=not console.is_terminal)
        self._task = self._progress.add_task(escape(description), total=total)

    def __enter__(self) -> Callable[..., None]:
        self._progress.start()
        return partial(self._progress.advance, self._task)

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()

    def resize(self, total: int) -> None:
        """Say how much there is to do, once it is known."""
        self._progress.update(self._task, total=total)
