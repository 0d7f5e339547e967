"""Peak memory of restoring large images in tiles: it grows with the tile, not with the image.

    python scripts/bench/tiling.py [--json results.json] [--megapixels 2.5 10 40] [--tiles 128 256] [--plain]
    python scripts/bench/tiling.py --files [--model fast_x4] [--side 2500] [--only png:8 jpg:8]

Each measurement is a process of its own, which restores one image x4 with a light network and hands finished rows to a
file, as `Restorer.rows` allows. `--plain` adds the usual way: the whole image through the network at once. The figure
is what the process took at its peak beyond what it had before the image was there.

`--files` runs `restore run` on one image instead, a process for each format and depth, and prints the peak of the whole
process as the system counts it; the first row is that of an image of 16 px, all that is not the image.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SCALE = 4
FILES = ("png:8", "png:16", "tif:8", "tif:16", "jpg:8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megapixels", type=float, nargs="+", default=[2.5, 10, 40], help="of the output")
    parser.add_argument("--tiles", type=int, nargs="+", default=[128, 256], help="tile sides")
    parser.add_argument("--plain", action="store_true", help="measure the untiled way too")
    parser.add_argument("--json", help="write the figures here")
    parser.add_argument("--files", action="store_true", help="measure `restore run`, format by format")
    parser.add_argument("--model", default="fast_x4", help="with --files")
    parser.add_argument("--side", type=int, default=2500, help="of the image that is restored, with --files")
    parser.add_argument("--only", nargs="+", default=FILES, metavar="FORMAT:BITS", help="with --files")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(float(arguments.measure[0]), int(arguments.measure[1]))))
        return

    if arguments.files:
        rows = [file_peak(arguments.model, side, *kind.split(":")) for side, kind in files_of(arguments)]
        show_files(rows)
        if arguments.json:
            Path(arguments.json).write_text(json.dumps(rows, indent=2), encoding="utf-8")
        return
    tiles = [*arguments.tiles, 0] if arguments.plain else arguments.tiles
    rows = [measured_apart(size, tile) for tile in tiles for size in arguments.megapixels]
    show(rows)
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump(rows, file, indent=2)


def measured_apart(megapixels: float, tile: int) -> dict:
    command = [sys.executable, __file__, "--measure", str(megapixels), str(tile)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def measure(megapixels: float, tile: int) -> dict:
    import numpy as np
    import torch

    from restore.inference import Restorer

    torch.set_num_threads(2)
    side = round(math.sqrt(megapixels * 1e6) / SCALE)
    restorer = Restorer(light_network(), device="cpu", tile=tile or None, tile_overlap=16, tile_batch=1)
    restorer(np.zeros((64, 64, 3), np.uint8))  # what a first run loads is not the image's
    before = peak_mib()
    image = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    started = time.perf_counter()
    with tempfile.TemporaryFile() as file:
        for rows in restorer.rows(image):
            file.write(rows.tobytes())
        written = file.tell()
    assert written == (side * SCALE) ** 2 * 3
    return {
        "output_megapixels": round((side * SCALE) ** 2 / 1e6, 1),
        "tile": tile or None,
        "peak_mib": round(peak_mib() - before, 1),
        "output_mib": round(written / 2**20, 1),
        "seconds": round(time.perf_counter() - started, 1),
    }


def files_of(arguments: argparse.Namespace) -> list[tuple[int, str]]:
    return [(16, "png:8"), *((arguments.side, kind) for kind in arguments.only)]


def file_peak(model: str, side: int, suffix: str, bits: str) -> dict:
    """What `restore run` takes from its start to its end; the result is read once more to know its size."""
    from restore.images import read_size, write_image

    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "input.png", Path(folder) / f"result.{suffix}"
        write_image(source, photograph(side, "uint16" if bits == "16" else "uint8"))
        command = [sys.executable, "-m", "restore", "run", "-m", model, "-i", str(source), "-o", str(target)]
        started = time.perf_counter()
        process = subprocess.Popen([*command, "--device", "cpu"], stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        assert status == 0, f"{' '.join(command)} failed"
        height, width = read_size(target)
        return {
            "format": suffix,
            "bits": int(bits),
            "output_megapixels": round(height * width / 1e6, 1),
            "peak_mb": round(usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6),
            "file_mb": round(target.stat().st_size / 1e6, 1),
            "processor_seconds": round(usage.ru_utime + usage.ru_stime, 1),
            "seconds": round(seconds, 1),
        }


def photograph(side: int, depth: str):
    """Something that compresses as photographs do: smooth shapes, edges and a little noise."""
    import cv2
    import numpy as np

    rng = np.random.default_rng(0)
    small = rng.random((max(side // 16, 2), max(side // 16, 2), 3), np.float32)
    pixels = cv2.resize(small, (side, side), interpolation=cv2.INTER_CUBIC)
    pixels += 0.01 * rng.standard_normal(pixels.shape, np.float32)
    white = np.iinfo(depth).max
    return np.rint(pixels.clip(0, 1) * white).astype(depth)


def show_files(rows: list[dict]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("result", "size", "peak of the process", "file", "processor time", "time")
    for row in rows:
        table.add_row(
            f"{row['format']}, {row['bits']} bit",
            f"{row['output_megapixels']} MP",
            f"{row['peak_mb']} MB",
            f"{row['file_mb']} MB",
            f"{row['processor_seconds']} s",
            f"{row['seconds']} s",
        )
    Console().print(table)


def light_network():
    """Three convolutions and a pixel shuffle, 24 channels wide."""
    import torch
    from torch import nn

    from restore.networks import ImageSpec

    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 24, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(24, 24, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(24, 3 * SCALE**2, 3, padding=1),
        nn.PixelShuffle(SCALE),
    )
    network.spec = ImageSpec(scale=SCALE)
    return network


def peak_mib() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def show(rows: list[dict]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("tile", "output", "peak memory", "output in 8 bit", "time")
    for row in rows:
        tile = f"{row['tile']} px" if row["tile"] else "none"
        table.add_row(
            tile,
            f"{row['output_megapixels']} MP",
            f"{row['peak_mib']} MiB",
            f"{row['output_mib']} MiB",
            f"{row['seconds']} s",
        )
    Console().print(table)


if __name__ == "__main__":
    main()
