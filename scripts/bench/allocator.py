"""What it brings on the processor that the `restore` command keeps the memory that it frees (`restore/allocator.py`).

    python scripts/bench/allocator.py [--model swinir_light_color_dn] [--side 500] [--threads 2] [--rounds 3]

Each measurement is a process of its own that restores a random image once, after a small one; processes that keep
memory and processes that do not take turns. Page faults are those of the timed image, the peak is that of the process.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parent))

from timing import machine, report

MEASURE = """
import json, resource, sys, time
import numpy as np, torch
import restore
from restore.allocator import keep_freed_memory

keep, model, side, threads = sys.argv[1] == "keep", sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
torch.set_num_threads(threads)
if keep:
    assert keep_freed_memory()
restorer = restore.load_model(model, device="cpu")
image = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
restorer(image[:64, :64])
faults, start = resource.getrusage(resource.RUSAGE_SELF).ru_minflt, time.perf_counter()
restorer(image)
seconds = time.perf_counter() - start
usage = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps({"s": seconds, "page faults": usage.ru_minflt - faults, "peak MiB": usage.ru_maxrss >> 10}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="swinir_light_color_dn")
    parser.add_argument("--side", type=int, default=500)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", default="results/bench/allocator.json")
    arguments = parser.parse_args()
    runs: dict[str, list[dict]] = {"leave": [], "keep": []}
    for _ in range(arguments.rounds):
        for mode, measured in runs.items():
            words = [mode, arguments.model, str(arguments.side), str(arguments.threads)]
            printed = subprocess.run(
                [sys.executable, "-c", MEASURE, *words], check=True, capture_output=True, text=True
            )
            measured.append(json.loads(printed.stdout))
    ratios = [slow["s"] / fast["s"] for slow, fast in zip(runs["leave"], runs["keep"], strict=True)]
    rows = [
        {"freed memory is": what, **{key: median(run[key] for run in runs[mode]) for key in runs[mode][0]}}
        | {"times as fast": median(ratios) if mode == "keep" else 1.0}
        for mode, what in (("leave", "given back (as usual)"), ("keep", "kept"))
    ]
    report(f"{arguments.model}, {arguments.side} x {arguments.side}", rows, machine("cpu"), arguments.json)


if __name__ == "__main__":
    main()
