"""How soon torch's idle threads sleep.

Between two operators an idle thread of GNU's OpenMP looks for new work in a loop, for milliseconds. On a quiet machine
that costs nothing. Where other programs want the cores, it takes time from the thread that still works.
"""

from __future__ import annotations

import os
import sys

__all__ = ["SPINS", "sleep_while_waiting"]

SPINS = "20000"
"""How often a thread looks for work before it sleeps; GNU's OpenMP does so 300,000 times by default."""


def sleep_while_waiting() -> bool:
    """Let torch's idle threads sleep soon. It works before torch is imported; the environment goes first.

    Returns:
        Whether they will: not where OMP_WAIT_POLICY or GOMP_SPINCOUNT is there, nor where torch is.
    """
    if "torch" in sys.modules or {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & set(os.environ):
        return False
    os.environ["GOMP_SPINCOUNT"] = SPINS
    return True
