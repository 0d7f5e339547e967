"""What the studies share: trainings from option files that are taken up where they were, and tables over seeds."""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from restore.assembly.trainings import train
from restore.options import load

SEEDS = (0, 1, 2)


def parser(description: str) -> argparse.ArgumentParser:
    """The arguments of every study."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--data", type=Path, default=Path("datasets"), help="folder with train/ and benchmark/")
    made.add_argument("--output", type=Path, default=Path("experiments/studies"), help="where trainings are kept")
    made.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    return made


def trained(option_file: str, name: str, overrides: Sequence[str], output: Path, *, seed: int) -> Path:
    """The weights of a training, which is run, taken up or, where it is finished, left as it is."""
    root = output / name
    weights = root / "models" / "net_g_latest.pth"
    if not weights.is_file():
        settings = [f"name={name}", f"manual_seed={seed}", f"path.experiments_root={output}", "num_gpu=0", *overrides]
        options = load(option_file, settings, is_train=True)
        options._auto_resume = (root / "training_states").is_dir()
        if train(options):
            raise SystemExit(130)
    return weights


def note(name: str, seed: int, *values: float) -> None:
    """Print what one training came to, at once."""
    print(f"{name}, seed {seed}: " + ", ".join(f"{value:.4f}" for value in values), file=sys.stderr)


def show(rows: Mapping[str, Mapping[str, Sequence[float]]], digits: int = 3) -> None:
    """Print a table: mean, and lowest to highest, over the seeds."""
    columns = list(next(iter(rows.values())))
    print("| |" + "|".join(f" {column} " for column in columns) + "|")
    print("|---" * (len(columns) + 1) + "|")
    for name, values in rows.items():
        cells = [
            f"{statistics.mean(each):.{digits}f} ({min(each):.{digits}f} to {max(each):.{digits}f})"
            for each in (values[column] for column in columns)
        ]
        print(f"| {name} | " + " | ".join(cells) + " |")
