"""`python restore/train.py -opt FILE`: trains as an option file says; the same as `restore train -opt FILE`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parent.parent)  # as a script, this folder stands where the package's should

from restore.cli import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
