"""How long threads of torch that wait for work look for it before they sleep.

Between two operators, GNU's OpenMP lets them look for it for milliseconds, with all their strength. That costs nothing
on a machine with nothing else to do. Where other programs want its cores, a thread that waits keeps the one that it
waits for from running.
"""

from __future__ import annotations

import os
import sys

__all__ = ["SPINS", "sleep_while_waiting"]

SPINS = "20000"
"""Looks for work; by default there are 300,000."""


def sleep_while_waiting() -> bool:
    """Let threads of torch, which is not yet imported, sleep soon; the environment decides where it says something.

    Returns:
        Whether they will: not where OMP_WAIT_POLICY or GOMP_SPINCOUNT is there, nor where torch is.
    """
    if "torch" in sys.modules or {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & set(os.environ):
        return False
    os.environ["GOMP_SPINCOUNT"] = SPINS
    return True
