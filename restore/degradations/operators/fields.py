"""Fields of random numbers, drawn from one `torch.Generator` for each sample."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from restore.degradations.operators.base import joined

__all__ = ["field", "field_of_one", "random_words"]


def field(
    x_BCHW: torch.Tensor, seeds: Sequence[int], *, channels: int | None = None, kind: str = "normal"
) -> torch.Tensor:
    """Random numbers for a batch, one generator for each sample, so that a sample does not depend on its neighbours.

    Args:
        x_BCHW: gives size, type and device.
        seeds: one for each sample.
        channels: of the result; those of the image if not given.
        kind: "normal" for N(0, 1), "uniform" for [0, 1).

    Returns:
        (B, channels, H, W); the same on every run on one kind of device.
    """
    shape = (channels or x_BCHW.shape[1], *x_BCHW.shape[-2:])
    return joined([field_of_one(shape, seed, device=x_BCHW.device, kind=kind) for seed in seeds]).to(x_BCHW.dtype)


def field_of_one(
    shape_CHW: Sequence[int], seed: int, *, device: torch.device | str = "cpu", kind: str = "normal"
) -> torch.Tensor:
    """The part of `field` that belongs to one sample, (C, H, W) float32."""
    sample = torch.randn if kind == "normal" else torch.rand
    return sample(shape_CHW, generator=torch.Generator(device).manual_seed(seed), device=device)


def random_words(shape: Sequence[int], generator: torch.Generator) -> torch.Tensor:
    """int32, every bit of which is random, on the generator's device.

    On the CPU torch makes whole numbers one by one: there the generator gives the key of a faster stream (SFC64, as
    NumPy has it).
    """
    count = math.prod(shape)
    if generator.device.type == "cpu":
        key = torch.empty(2, dtype=torch.int64).random_(2**32, generator=generator).tolist()
        pairs = np.random.SFC64(key).random_raw((count + 1) // 2)
        return torch.from_numpy(pairs.view(np.int32)[:count]).view(*shape)
    pairs = torch.empty((count + 1) // 2, dtype=torch.int64, device=generator.device)
    return pairs.random_(-(2**63), None, generator=generator).view(torch.int32)[:count].view(*shape)
