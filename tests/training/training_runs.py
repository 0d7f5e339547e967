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
