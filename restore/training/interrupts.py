"""Ctrl-C and termination requests: noted, so that the iteration is finished and saved before the run ends."""

from __future__ import annotations

import logging
import signal
import threading
from types import FrameType

__all__ = ["Interrupts"]

log = logging.getLogger(__name__)


class Interrupts:
    """Context in which the first SIGINT or SIGTERM sets `requested`, and a second SIGINT interrupts at once.

    Outside the main thread, where Python allows no handlers, it does nothing.

    Attributes:
        requested: the name of the signal that came, or None.
    """

    def __init__(self):
        self.requested: str | None = None
        self._before: dict[int, object] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested = signal.Signals(number).name
        log.warning("%s: finishing this iteration and saving; once more to stop at once", self.requested)
