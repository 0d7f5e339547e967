"""Speed of the antialiased bicubic resize, against a loop over rows in Python and against other libraries.

    python scripts/bench/resize.py [--megapixels 2] [--threads 2] [--device cpu] [--json resize.json]

The ways are timed in turn in every round, so that a busy machine slows all of them alike; medians are reported. Pillow
gets the three channels one by one, as it has no other way to resize floats. `--no-loop` leaves the slow loop out.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch.nn import functional as F

from restore.images import resize


def cubic(x: float) -> float:
    x = abs(x)
    if x <= 1:
        return 1.5 * x**3 - 2.5 * x**2 + 1
    return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0.0


def taps_of_row(row: int, length: int, scale: float) -> tuple[list[int], np.ndarray]:
    shrink = min(scale, 1.0)
    centre = (row + 0.5) / scale - 0.5
    first = math.floor(centre - 2 / shrink)
    positions = range(first, first + math.ceil(4 / shrink) + 2)
    weights = np.array([cubic((centre - position) * shrink) for position in positions], np.float32)
    mirrored = [position % (2 * length) for position in positions]
    return [min(position, 2 * length - 1 - position) for position in mirrored], weights / weights.sum()


def loop_over_rows(image_HWC: np.ndarray, scale: float) -> np.ndarray:
    """The plain way: every row, then every column of the result by itself."""
    height, width, channels = image_HWC.shape
    tall = np.empty((math.ceil(height * scale), width, channels), np.float32)
    for row in range(len(tall)):
        taps, weights = taps_of_row(row, height, scale)
        tall[row] = np.tensordot(weights, image_HWC[taps], 1)
    small = np.empty((len(tall), math.ceil(width * scale), channels), np.float32)
    for column in range(small.shape[1]):
        taps, weights = taps_of_row(column, width, scale)
        small[:, column] = np.tensordot(tall[:, taps], weights, (1, 0))
    return small


def measure(ways: dict[str, Callable[[], object]], rounds: int, synchronise: Callable[[], None]) -> dict[str, float]:
    """Median milliseconds of each way: of the processor, where it does the work, else by the clock."""
    clock = time.perf_counter if torch.cuda.is_available() else time.process_time
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds + 1):  # the first round warms up
        for name, way in ways.items():
            synchronise()
            start = clock()
            way()
            synchronise()
            times[name].append(1000 * (clock() - start))
    return {name: statistics.median(samples[1:]) for name, samples in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megapixels", type=float, default=2.0)
    parser.add_argument("--scales", type=float, nargs="+", default=[1 / 4, 1 / 3, 1 / 2, 0.37, 1.5, 2, 3, 4])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--no-loop", dest="loop", action="store_false")
    parser.add_argument("--json", type=Path, default=Path("results/bench/resize.json"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    cv2.setNumThreads(arguments.threads)
    synchronise = torch.cuda.synchronize if arguments.device.startswith("cuda") else lambda: None

    height = round(math.sqrt(arguments.megapixels * 1e6 * 9 / 16))
    image_HWC = np.random.default_rng(0).random((height, round(height * 16 / 9), 3), np.float32)
    x_BCHW = torch.from_numpy(image_HWC).permute(2, 0, 1)[None].contiguous().to(arguments.device)
    planes = [Image.fromarray(np.ascontiguousarray(image_HWC[..., channel])) for channel in range(3)]
    results = []
    for scale in arguments.scales:
        target = tuple(math.ceil(side * scale) for side in image_HWC.shape[:2])
        ways = {
            "ours": lambda scale=scale: resize(x_BCHW, scale=scale),
            "row loop": lambda scale=scale: loop_over_rows(image_HWC, scale),
            "torch antialias": lambda target=target: F.interpolate(x_BCHW, target, mode="bicubic", antialias=True),
            "Pillow": lambda target=target: [each.resize(target[::-1], Image.Resampling.BICUBIC) for each in planes],
            "cv2 INTER_AREA": lambda target=target: cv2.resize(image_HWC, target[::-1], interpolation=cv2.INTER_AREA),
        }
        if arguments.loop:
            difference = np.abs(ways["ours"]()[0].permute(1, 2, 0).cpu().numpy() - ways["row loop"]()).max()
            assert difference < 1e-4, difference
        else:
            del ways["row loop"]
        milliseconds = measure(ways, arguments.rounds, synchronise)
        others = [milliseconds[name] for name in ("torch antialias", "Pillow")]
        ratio = min(others) / milliseconds["ours"]
        results.append(
            {
                "scale": scale,
                "size": target,
                "milliseconds": milliseconds,
                "times_as_fast": ratio,
            }
        )

    height, width, _ = image_HWC.shape
    table = Table(title=f"{width}x{height} RGB float32, {arguments.device}, {arguments.threads} threads, median ms")
    for name in ("scale", *results[0]["milliseconds"], "torch or Pillow / ours"):
        table.add_column(name, justify="right")
    for result in results:
        figures = [f"{value:.1f}" for value in result["milliseconds"].values()]
        table.add_row(f"{result['scale']:.3g}", *figures, f"{result['times_as_fast']:.1f}")
    Console().print(table)
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps({"image": [height, width], "results": results}, indent=2))


if __name__ == "__main__":
    main()
