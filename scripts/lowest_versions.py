"""Prints the lowest version of every requirement, as constraints for pip: `torch>=2.4` becomes `torch==2.4`."""

from __future__ import annotations

import re
import sys
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PROJECT = Path(__file__).resolve().parent.parent / "pyproject.toml"


def lowest(requirement: str) -> str | None:
    """A constraint that allows the lowest version alone; None if the requirement has no lower bound."""
    found = re.fullmatch(r"([A-Za-z0-9._-]+)(?:\[.*\])?>=([0-9][0-9.]*)", requirement.replace(" ", ""))
    return f"{found[1]}=={found[2]}" if found else None


if __name__ == "__main__":
    for each in tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]["dependencies"]:
        constraint = lowest(each)
        if constraint is None:
            sys.exit(f"'{each}' has no lower bound")
        sys.stdout.write(f"{constraint}\n")
