"""How long the models of the package take for one image, against each other.

    PYTHONPATH=. python scripts/bench/shipped.py [--models fast_x4 swinir_light_x4] [--size 128] [--precision fp32]

The models run in turn; ratios are to the first one, round by round, and their median is printed.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))
from timing import interleaved, machine, report, summary

from restore import load_model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["fast_x4", "swinir_light_x4"])
    parser.add_argument("--size", type=int, default=128, help="side of the input")
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16", "auto"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", help="where to write the figures")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    image = np.random.default_rng(0).integers(0, 256, (arguments.size, arguments.size, 3), dtype=np.uint8)
    restorers = {name: load_model(name, device="cpu", precision=arguments.precision) for name in arguments.models}
    seconds = interleaved({name: lambda each=each: each(image) for name, each in restorers.items()}, arguments.rounds)
    rows = [
        {"model": name, "seconds": row["median_s"], "times the first": row["ratio"]}
        for name, row in summary(seconds, arguments.models[0]).items()
    ]
    report(f"{arguments.size} x {arguments.size}, {arguments.precision}", rows, machine(), arguments.json)


if __name__ == "__main__":
    main()
