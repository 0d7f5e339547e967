"""`python -m restore` is the `restore` command, which is quiet when it is interrupted before it has begun."""

import sys

__all__ = ["main"]


def main() -> int:
    """Entry point of the `restore` command; returns the exit code."""
    try:
        from restore.cli import main as command

        return command()
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
