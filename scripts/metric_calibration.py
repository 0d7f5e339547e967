"""Our metrics beside the official scores of the five calibration pairs: a table of ours, official and difference.

    python scripts/metric_calibration.py FOLDER [--weights FOLDER]

FOLDER holds ref_dir, dist_dir and results_official.csv (the calibration set that pyiqa publishes). A metric whose
weights are not on this machine is named and left out.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

from restore.errors import MissingError
from restore.images import read_image
from restore.metrics import METRICS

GREY = {"luma": "grey", "y_rounding": "matlab"}
ROWS = {  # the official row, and how it was computed
    "psnr": {"type": "psnr"},
    "ssim": {"type": "ssim", **GREY},
    "ms_ssim": {"type": "ms_ssim", **GREY},
    "gmsd": {"type": "gmsd"},
    "fsim": {"type": "fsim"},
    "vif": {"type": "vif"},
    "lpips": {"type": "lpips", "net": "alex"},
    "dists": {"type": "dists"},
    "niqe": {"type": "niqe", "convert_to": "gray"},
    "brisque": {"type": "brisque"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--weights", help="folder of ImageNet weights for LPIPS and DISTS")
    arguments = parser.parse_args()
    with open(arguments.folder / "results_official.csv") as file:
        official = {row["Method"]: row for row in csv.DictReader(file)}
    names = sorted(path.name for path in (arguments.folder / "dist_dir").iterdir())
    pairs = {
        name: [read_image(arguments.folder / side / name).pixels for side in ("dist_dir", "ref_dir")] for name in names
    }
    print(f"{'metric':10}{'image':10}{'ours':>12}{'official':>12}{'difference':>14}")
    for row, block in ROWS.items():
        if arguments.weights and row in ("lpips", "dists"):
            block = {**block, "weights": arguments.weights}
        metric = METRICS.bind(block)
        for name in names:
            try:
                ours = metric(*pairs[name])
            except MissingError as error:
                print(f"{row:10}left out: {error}")
                break
            theirs = float(official[row][name])
            print(f"{row:10}{name:10}{ours:12.4f}{theirs:12.4f}{ours - theirs:14.5f}")


if __name__ == "__main__":
    main()
