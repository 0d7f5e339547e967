"""Keeping the C library from handing large blocks of memory back and forth.

glibc takes every block of more than 32 MiB from the system anew and returns it as soon as it is freed, and the system
clears each page again. The maps of a photograph are larger than that: half of a network's time on the processor can go
there. A program tells glibc otherwise by `mallopt(3)`: the `restore` command does, and so does a `Restorer` on the
processor, for the whole process that it is in. The way out is `RESTORE_KEEP_MEMORY=0` in the environment, or
`give_back_memory()` when the work is done.
"""

from __future__ import annotations

import ctypes
import math
import mmap
import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

__all__ = ["give_back_memory", "keep_freed_memory", "kept_bytes", "zeros_apart"]

VARIABLE = "RESTORE_KEEP_MEMORY"
"""Environment variable: 0 to leave the allocator as it is."""

M_TRIM_THRESHOLD = -1
M_MMAP_MAX = -4
NEVER = -1


class _MallInfo(ctypes.Structure):
    """`struct mallinfo2`, see mallinfo(3)."""

    _names = ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")
    _fields_ = [(name, ctypes.c_size_t) for name in _names]


def keep_freed_memory() -> bool:
    """Let this process keep memory that it frees, for what it allocates next.

    Returns:
        Whether it does: not without glibc, nor where RESTORE_KEEP_MEMORY is 0.
    """
    library = _glibc()
    if library is None or os.environ.get(VARIABLE) == "0":
        return False
    return bool(library.mallopt(M_MMAP_MAX, 0) and library.mallopt(M_TRIM_THRESHOLD, NEVER))


def give_back_memory() -> bool:
    """Return memory that this process has freed and still holds to the system; whether there was any."""
    library = _glibc()
    return bool(library is not None and library.malloc_trim(ctypes.c_size_t(0)))


def kept_bytes() -> int:
    """Memory that this process has freed and still holds; 0 where the C library does not tell."""
    library = _glibc()
    if library is None:
        return 0
    library.mallinfo2.restype = _MallInfo
    return int(library.mallinfo2().fordblks)


def zeros_apart(shape: Sequence[int], dtype: np.dtype[Any] | type) -> np.ndarray:
    """An array of zeros in memory that comes from the system and goes back to it.

    For what stays while a network runs again and again. Among the blocks that each of its passes takes and frees, it
    would split what the next pass asks for, and the process would grow.
    """
    import numpy as np

    num_bytes = max(1, math.prod(shape) * np.dtype(dtype).itemsize)
    own = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}
    return np.frombuffer(mmap.mmap(-1, num_bytes, **own), dtype, math.prod(shape)).reshape(shape)


def _glibc() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "mallopt") and hasattr(library, "mallinfo2") else None  # 2.33 and newer
