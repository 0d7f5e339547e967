"""Train as an option file says; works in a fresh clone, without installation.

    python restore/train.py -opt options/train_swinir_light_x2.yml

The same as `restore train`; see `restore/commands/train.py`.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    folder = Path(__file__).resolve().parent
    # Python puts this script's folder on the path, where our modules would pass for those of the standard library.
    sys.path[:] = [str(folder.parent), *(place for place in sys.path if Path(place or ".").resolve() != folder)]

    from restore.__main__ import run

    run(["train", *sys.argv[1:]])
