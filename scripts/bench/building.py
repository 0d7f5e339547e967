"""How long encoders take to be built by name, against filling as many numbers alone. One thread, one process.

python scripts/bench/building.py [NAME ...] [--largest 150] [--above 0] [--json results/bench/building.json]

Imports are done before, by building one encoder of each library. A name counts as slow where it takes more than two
seconds of processor time and drawing its parameters alone does not.
"""

from __future__ import annotations

import argparse
import gc
import json
import time
from collections.abc import Callable
from pathlib import Path

import torch

from restore.encoders import build_encoder
from restore.registry import ENCODERS

SECONDS = 2.0
"""What building may take where its parameters alone do not take longer."""
LEFT_OUT = ("pyramid", "timm")  # which are made of another encoder, and of one that has a name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="of encoders; all of this package without any")
    parser.add_argument("--largest", type=float, default=150.0, help="leave out those of more million parameters")
    parser.add_argument("--above", type=float, default=0.0, help="show those alone that take more seconds")
    parser.add_argument("--json", default="results/bench/building.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for name in ("conv_pyramid", "test_vit"):
        build_encoder(name)
    rows = []
    for name in arguments.names or [name for name in ENCODERS if name not in LEFT_OUT]:
        row = _row(name, arguments.largest)
        if row is not None:
            rows.append(row)
            if row["seconds"] >= arguments.above:
                print(
                    "{name:28s} {seconds:7.3f} s  {millions:7.1f} M  numbers alone {numbers:6.3f} s {mark}".format(
                        **row
                    )
                )
    slow = [row["name"] for row in rows if row["mark"]]
    print(f"{len(rows)} built, {len(slow)} slow: {', '.join(slow)}")
    path = Path(arguments.json)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rows, indent=1) + "\n")


def _row(name: str, largest: float) -> dict | None:
    with torch.device("meta"):
        sizes = [parameter.shape for parameter in build_encoder(name).parameters()]
    millions = sum(size.numel() for size in sizes) / 1e6
    if millions > largest:
        return None
    from restore.encoders.timm import probe

    probe._REMEMBERED.clear()  # what was found out about the model a moment ago
    seconds = _processor_seconds(lambda: build_encoder(name))
    numbers = _processor_seconds(lambda: [torch.nn.init.trunc_normal_(torch.empty(size), std=0.02) for size in sizes])
    mark = "slow" if numbers <= SECONDS < seconds else ""
    return {"name": name, "seconds": seconds, "millions": millions, "numbers": numbers, "mark": mark}


def _processor_seconds(run: Callable[[], object]) -> float:
    gc.collect()
    begin = time.process_time()
    run()
    return time.process_time() - begin


if __name__ == "__main__":
    main()
