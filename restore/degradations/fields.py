"""Fields of random numbers, drawn from one `torch.Generator` for each sample.

On the CPU torch takes most of its time to turn the generator's words into numbers, one by one. Here they are fetched
64 bits at a time and become numbers by whole-array arithmetic, which is two to three times faster.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

__all__ = ["field", "random_words"]

_WORD = 2**24  # equally likely uniform numbers: all of them float32 without rounding


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
    sample = _normal if kind == "normal" else _uniform
    fields = [sample(shape, torch.Generator(x_BCHW.device).manual_seed(seed)) for seed in seeds]
    return (fields[0][None] if len(fields) == 1 else torch.stack(fields)).to(x_BCHW.dtype)


def random_words(shape: Sequence[int], generator: torch.Generator) -> torch.Tensor:
    """int32, every bit of which is random, on the generator's device."""
    count = math.prod(shape)
    pairs = torch.empty((count + 1) // 2, dtype=torch.int64, device=generator.device)
    return pairs.random_(-(2**63), None, generator=generator).view(torch.int32)[:count].view(*shape)


def _uniform(shape: Sequence[int], generator: torch.Generator) -> torch.Tensor:
    if generator.device.type != "cpu":
        return torch.rand(shape, generator=generator, device=generator.device)
    return random_words(shape, generator).bitwise_and_(_WORD - 1).float().mul_(1 / _WORD)


def _normal(shape: Sequence[int], generator: torch.Generator) -> torch.Tensor:
    """Two normal numbers of two uniform ones (Box and Muller 1958)."""
    if generator.device.type != "cpu":
        return torch.randn(shape, generator=generator, device=generator.device)
    count = math.prod(shape)
    half = (count + 1) // 2
    radius, angle = _uniform((2, half), generator)
    radius = radius.neg_().add_(1).log_().mul_(-2).sqrt_()
    angle.mul_(2 * math.pi)
    normal = torch.empty(2, half)
    torch.cos(angle, out=normal[0]).mul_(radius)
    torch.sin(angle, out=normal[1]).mul_(radius)
    return normal.view(-1)[:count].view(*shape)
