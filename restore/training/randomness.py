"""The random generators of Python, NumPy and torch: seeded together, saved and restored together.

A snapshot holds plain values and tensors alone, so that it loads with `weights_only=True`. What the data loader draws
is not in it: every sample's randomness is a function of the seed and of the sample's position in the run (see
`restore.data.sampling`).
"""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch

__all__ = ["restore_generators", "seed_generators", "snapshot_generators"]


def seed_generators(seed: int) -> None:
    """Seed Python, NumPy and torch (all devices)."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def snapshot_generators() -> dict[str, Any]:
    """The state of every global generator of this process."""
    name, keys, position, has_gauss, cached = np.random.get_state()
    snapshot: dict[str, Any] = {
        "python": random.getstate(),
        "numpy": (name, torch.from_numpy(keys.astype(np.int64)), position, has_gauss, cached),
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        snapshot["cuda"] = torch.cuda.get_rng_state_all()
    return snapshot


def restore_generators(snapshot: dict[str, Any]) -> None:
    """Put every global generator back to where it was."""
    version, state, gauss = snapshot["python"]
    random.setstate((version, tuple(state), gauss))
    name, keys, position, has_gauss, cached = snapshot["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, cached))
    torch.set_rng_state(snapshot["torch"].cpu())
    if "cuda" in snapshot and torch.cuda.device_count() == len(snapshot["cuda"]):
        torch.cuda.set_rng_state_all([state.cpu() for state in snapshot["cuda"]])
