"""What every process that works for another one does first: it leaves it to that one to begin and to end."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading

__all__ = ["leave_signals_to_the_main_process"]

_LOOK_S = 2.0


def leave_signals_to_the_main_process() -> None:
    """Ignore the signals that reach all processes of a run: the main one may still need what this one does.

    Only the main process's own SIGTERM ends this one, or its death.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "sigtimedwait"):  # not on macOS and Windows
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_when_the_main_process_asks, args=(os.getppid(),), daemon=True).start()
    else:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _end_when_the_main_process_asks(parent: int) -> None:
    """Wait for its SIGTERM; others', such as torchrun's and Slurm's, go to the whole run."""
    main = multiprocessing.parent_process()
    while os.getppid() == parent:  # the process that started this one is alive: the main one, or its server
        sent = signal.sigtimedwait({signal.SIGTERM}, _LOOK_S)
        if sent and main and sent.si_pid == main.pid:
            break
    os._exit(0)
