"""The start of `restore run`, against `import torch` alone.

    python scripts/bench/startup.py [--model swinir_light_x4] [--rounds 9]

Both are new processes, in turns; the image has 16 x 16 pixels, so that the network takes next to nothing: what it took
is printed by the command itself. Seconds by the clock and of the processor, medians, and the difference.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from timing import machine, report

from restore.images import write_image

ROOT = Path(__file__).resolve().parents[2]


def seconds_of(command: list[str], folder: str) -> tuple[float, float]:
    """By the clock and of the processor."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    environment |= {"PYTHONPYCACHEPREFIX": str(Path(folder) / "compiled")}  # as after the first run of an installation
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, *command], cwd=folder, env=environment, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - start, processor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="swinir_light_x4")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", default="results/bench/startup.json")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        noise = np.random.default_rng(0).integers(256, size=(16, 16, 3), dtype=np.uint8)
        write_image(Path(folder) / "in.png", noise)
        run = ["-m", "restore", "run", "-m", arguments.model, "-i", "in.png", "-o", "out.png", "--device", "cpu"]
        commands = {"import torch": ["-c", "import torch"], "restore run": run}
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
        for round_ in range(-1, arguments.rounds):
            for name, command in commands.items():
                Path(folder, "out.png").unlink(missing_ok=True)
                seconds = seconds_of(command, folder)
                if round_ >= 0:
                    times[name].append(seconds)
    medians = {name: [statistics.median(column) for column in zip(*rows, strict=True)] for name, rows in times.items()}
    more = [
        statistics.median(b[k] - a[k] for a, b in zip(times["import torch"], times["restore run"], strict=True))
        for k in (0, 1)
    ]
    rows = [
        {"what": name, "clock [s]": clock, "processor [s]": processor}
        for name, (clock, processor) in {**medians, "more than import torch": more}.items()
    ]
    report(f"start of `restore run -m {arguments.model}`", rows, machine(), arguments.json)


if __name__ == "__main__":
    main()
