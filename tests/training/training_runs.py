"""Trainings from option files in this process, and whether what they left is bit for bit the same."""

from __future__ import annotations

import torch

from restore.assembly.trainings import train
from restore.options import load


def run(option_file, *overrides, auto_resume=False):
    options = load(option_file, list(overrides), is_train=True)
    options._auto_resume = auto_resume
    return train(options)


def same(one, other):
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def resumed_bit_by_bit(option_file, root, last, *overrides):
    """Whether a run that goes on from the state before its last one ends with the same networks and state.

    Args:
        option_file: of a run that saves at iteration `last`, its end, and at least once before.
        root: folder of the run.
        last: its last iteration.
        overrides: of options.
    """
    assert run(option_file, *overrides) == 0
    files = [root / "training_states" / f"{last}.state", *sorted((root / "models").glob(f"net_*_{last}.pth"))]
    whole = [torch.load(path, weights_only=True) for path in files]
    for path in (*files, *(root / "models").glob("net_*_latest.pth")):
        path.unlink()
    assert run(option_file, *overrides, auto_resume=True) == 0
    return all(same(one, torch.load(path, weights_only=True)) for one, path in zip(whole, files, strict=True))
