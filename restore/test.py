"""Evaluate a model over datasets, as an option file says; works in a fresh clone, without installation.

    python restore/test.py -opt options/swinir_x4.yml
    python restore/test.py -opt options/swinir_x4.yml --input my_photos --output my_photos_x4

The same as `restore test`; see `restore/commands/test.py`.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    folder = Path(__file__).resolve().parent
    # Python puts this script's folder on the path, where our modules would pass for those of the standard library.
    sys.path[:] = [str(folder.parent), *(place for place in sys.path if Path(place or ".").resolve() != folder)]

    from restore.__main__ import run

    run(["test", *sys.argv[1:]])
