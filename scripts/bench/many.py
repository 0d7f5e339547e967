"""Many images in one process: resident memory and time per image have to stay where they are.

    python scripts/bench/many.py [--images 10000] [--model fast_x4] [--sides 12 24] [--steps 10] [--json FILE]

Small images of random sizes go from file to file by what `restore run` calls (`restore_files`), in one process. For
each tenth of them it prints processor time and time for an image, and the memory that the process has at its end; the
processor time is the median over groups of 20 images. The last line compares the halves: median and lower quartile of
the groups of the second by those of the first. Other work slows some groups by far and the quartile by little.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from timing import report

GROUP = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--model", default="fast_x4")
    parser.add_argument("--sides", type=int, nargs=2, default=(12, 24), metavar=("LEAST", "MOST"))
    parser.add_argument("--steps", type=int, default=10, help="rows of the table")
    parser.add_argument("--json", type=Path, help="write the figures here")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "in", Path(folder) / "out"
        make_images(source, arguments.images, *arguments.sides)
        rows, groups = restore_all(source, target, arguments.model, arguments.steps)
    halves = compared(groups)
    facts = {"model": arguments.model, "images": arguments.images, "sides": arguments.sides}
    report("Many images in one process", rows, facts, None)
    print(", ".join(f"{key} {value:.3f}" for key, value in halves.items()))
    if arguments.json:
        arguments.json.write_text(
            json.dumps({"facts": facts, "rows": rows, "halves": halves}, indent=2) + "\n", encoding="utf-8"
        )


def make_images(folder: Path, number: int, least: int, most: int) -> None:
    """Random images, each side between `least` and `most` pixels."""
    from restore.images import write_image

    rng = np.random.default_rng(0)
    folder.mkdir()
    for index in range(number):
        height, width = rng.integers(least, most + 1, 2)
        write_image(folder / f"{index:06}.png", rng.integers(0, 256, (height, width, 3), np.uint8))


def compared(groups: list[float]) -> dict[str, float]:
    """The second half of the groups by the first, without the first group, which loads what is loaded once."""
    half = len(groups) // 2
    first, second = (statistics.quantiles(part, n=4) for part in (groups[1:half], groups[half:]))
    return {"second half / first, median": second[1] / first[1], "lower quartile": second[0] / first[0]}


def restore_all(source: Path, target: Path, model: str, steps: int) -> tuple[list[dict], list[float]]:
    """A row for each step, and the processor time of an image (ms) in each group of `GROUP`."""
    import restore
    from restore.inference.folder import restore_files
    from restore.inference.memory import resident_bytes
    from restore.jobs import plan_jobs

    jobs = plan_jobs(source, target)
    restorer = restore.load_model(model, device="cpu")
    each = max(1, len(jobs) // steps)
    rows: list[dict] = []
    groups: list[float] = []
    wall, spent = time.perf_counter(), time.process_time()
    for number, outcome in enumerate(restore_files(jobs, restorer), 1):
        assert outcome.error is None, outcome.error
        if number % GROUP == 0:
            used = time.process_time()
            groups.append((used - spent) / GROUP * 1e3)
            spent = used
        if number % each == 0:
            now = time.perf_counter()
            rows.append(
                {
                    "images": number,
                    "resident MB": round(resident_bytes() / 1e6, 1),
                    "processor ms each": statistics.median(groups[-(each // GROUP) :]),
                    "ms each": (now - wall) / each * 1e3,
                }
            )
            print(", ".join(f"{key} {value:.4g}" for key, value in rows[-1].items()), flush=True)
            wall = now
    assert len(list(target.iterdir())) == len(jobs)
    return rows, groups


if __name__ == "__main__":
    main()
