"""Where things are kept that can be made again: prepared datasets and inputs made from references."""

from __future__ import annotations

import os
from pathlib import Path

from restore.files import expanded

__all__ = ["cache_folder"]


def cache_folder() -> Path:
    """`$RESTORE_CACHE`, else `restore` in the user's cache folder (`$XDG_CACHE_HOME` or `~/.cache`)."""
    if chosen := os.environ.get("RESTORE_CACHE"):
        return expanded(chosen)
    return expanded(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "restore"
