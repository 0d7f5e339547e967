"""Running the application: the socket, the signals, the end.

The first SIGTERM or Ctrl-C refuses what waits, finishes what is being done, and leaves a moment to fetch it; the second
ends at once.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import socket
import threading
from collections.abc import Collection, Iterator
from types import FrameType

import uvicorn

from restore.errors import OptionsError
from restore.serving.app import make_app
from restore.serving.desk import Desk
from restore.serving.guard import Guard

__all__ = ["Server", "listen"]

CONNECTIONS = 256
ANSWERED_WITHIN_S = 20
logger = logging.getLogger(__name__)


class Server(uvicorn.Server):
    """uvicorn over a desk.

    Args:
        desk: does the work; its workers are started.
        token, hosts: see `Guard`.
    """

    def __init__(self, desk: Desk, token: str | None = None, hosts: Collection[str] = ()):
        self.desk = desk
        self._signals = 0
        super().__init__(
            uvicorn.Config(
                Guard(make_app(desk), token, hosts),
                log_config=None,
                log_level=logging.WARNING,
                access_log=False,
                server_header=False,
                lifespan="off",
                http="h11",
                ws="none",
                limit_concurrency=CONNECTIONS,
                timeout_graceful_shutdown=ANSWERED_WITHIN_S,
            )
        )

    def serve_on(self, listening: socket.socket) -> None:
        """Answer requests until a signal comes, or `stop` is called from another thread."""
        self.desk.start()
        self.run(sockets=[listening])
        self.desk.stop()

    def stop(self) -> None:
        """End as the first signal does; when that was done before, as the second."""
        self._signals += 1
        if self._signals == 1:
            self.desk.stop()
            logger.info("stopping: what is being done is finished; once more, and it is given up")
        else:
            self.desk.abandon()
            self.should_exit = self.force_exit = True

    async def on_tick(self, counter: int) -> bool:
        """What is to be done ten times a second; whether the server ends."""
        if counter % 10 == 0:
            self.desk.tidy()
        if self.desk.is_stopping and self.desk.is_idle():
            self.should_exit = True
        ends: bool = await super().on_tick(counter)
        return ends

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Inside, signals are asked to wait until the end is a good one."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def handle(number: int, frame: FrameType | None) -> None:
            self.stop()

        usual = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in usual.items():
                signal.signal(number, handler)


def listen(host: str, port: int) -> socket.socket:
    """A socket that takes connections; port 0 finds one.

    Raises:
        OptionsError: no such address, or somebody else is there.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(found[4][:2], family=found[0], backlog=128)
    except OSError as error:
        raise OptionsError(
            f"cannot listen on {host}, port {port}: {error.strerror or error}. Give another --port or --host."
        ) from error
