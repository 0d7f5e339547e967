"""Trains an option file in variants, each with several seeds, and prints what each reaches.

    python scripts/studies/variants.py -opt options/train_sweep_denoise_25.yml --iterations 300 \\
        -o results/studies/shared --variant plain --variant "pairs share: network_g.share_blocks=2"

A variant is a name and, after a colon, assignments with semicolons between. The same command goes on where it was
interrupted. PSNR is the mean over the dataset `val`, or, with `--crop`, over the middles of its images; ± is the
standard deviation over the seeds. Where all begin with the weights of `path.pretrain_network_g`, these are measured,
too, and the last column is the share of what the first variant gains over them.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))
from measured import dataset_of, psnr_of

from restore import load_model
from restore.assembly.networks import build_network
from restore.assembly.trainings import train
from restore.options import load
from restore.training.trainable import train_only


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-opt", required=True, help="option file of a training")
    parser.add_argument("--variant", action="append", required=True, metavar="NAME: KEY=VALUE; ...")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of all variants")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--iterations", type=int, required=True)
    parser.add_argument("--crop", type=int, help="side of the middle of each image")
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    variants = {}
    for text in arguments.variant:
        name, _, assignments = text.partition(":")
        variants[name.strip()] = [each.strip() for each in assignments.split(";") if each.strip()]
    found: dict[str, list[float]] = {name: [] for name in variants}
    counts = {}
    before = None
    for seed in range(arguments.seeds):
        for name, assignments in variants.items():
            periods = f"train.scheduler.periods=[{arguments.iterations}]"
            length = [f"train.total_iter={arguments.iterations}", "val.val_freq=~", periods]
            place = arguments.output / name.replace(" ", "_") / str(seed)
            own = [f"manual_seed={seed}", f"path.experiments_root={place}"]
            options = load(arguments.opt, [*arguments.set, *length, *own, *assignments], is_train=True)
            options._auto_resume = True
            source, entry, strict = options.path.pretrained()
            if before is None and source and strict:
                before = value_of(options, arguments.crop, source, entry)
                print(f"before: {before:.3f} dB", flush=True)
            if train(options) != 0:
                return
            counts[name] = parameters(options)
            found[name].append(value_of(options, arguments.crop))
            print(f"{name}, seed {seed}: {found[name][-1]:.3f} dB", flush=True)
    first = next(iter(found.values()))
    last = "" if before is None else " of the gain |"
    print(f"| variant | parameters | that learn | PSNR [dB] | ± | change |{last}")
    print("|---|---|---|---|---|---|" + ("---|" if last else ""))
    gain = statistics.mean(first) - (before or 0.0)
    if before is not None:
        print(f"| before | {counts[next(iter(variants))][0]:,} | | {before:.3f} | | {-gain:+.3f} | |")
    for name, values in found.items():
        change = statistics.mean(one - other for one, other in zip(values, first, strict=True))
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        mean, (everything, learning) = statistics.mean(values), counts[name]
        part = f" {1 + change / gain:.0%} |" if last else ""
        print(f"| {name} | {everything:,} | {learning:,} | {mean:.3f} | {spread:.3f} | {change:+.3f} |{part}")


def parameters(options) -> tuple[int, int]:
    """All of the network, and those that learn."""
    network = build_network(options)
    everything = sum(each.numel() for each in network.parameters())
    wanted = options.train.trainable
    return everything, everything if wanted is None else train_only(network, wanted)[0]


def value_of(options, crop: int | None, weights=None, key: str | None = "params") -> float:
    """Mean PSNR of what was trained; of the weights themselves, as averages of few iterations lag behind."""
    weights = weights or options.paths.experiments_root / "models/net_g_latest.pth"
    restorer = load_model(weights, key=key, device="cpu", tile=64, tile_overlap=16).measuring()
    dataset = dataset_of(options)
    values = [psnr_of(restorer, dataset[index], crop, restorer.scale) for index in range(len(dataset))]
    return statistics.mean(values)


if __name__ == "__main__":
    main()
