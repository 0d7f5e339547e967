"""`python -m restore` is the `restore` command, which is quiet when it is interrupted before it has begun."""

from __future__ import annotations

import sys
from collections.abc import Sequence

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the `restore` command; returns the exit code."""
    try:
        from restore.cli import main as command

        return command(argv)
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
