"""Fields of random numbers, drawn from one `torch.Generator` for each sample.

On the CPU torch makes its numbers one by one. Here the generator gives two keys and every position of a field is hashed
with them: random words, made by whole-array arithmetic (as counter-based generators make them on accelerators), which
then become uniform or normal numbers in the same way.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

__all__ = ["field", "random_words"]

_MIXING = (16, 0x7FEB352D), (15, 0x846CA68B)  # shifts and factors of Wellons' `lowbias32`
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
    if generator.device.type == "cpu":
        return torch.from_numpy(_hashed_positions(count, generator).view(np.int32)).view(*shape)
    pairs = torch.empty((count + 1) // 2, dtype=torch.int64, device=generator.device)
    return pairs.random_(-(2**63), None, generator=generator).view(torch.int32)[:count].view(*shape)


def _hashed_positions(count: int, generator: torch.Generator) -> np.ndarray:
    """uint32: each position plus a key, mixed twice; a second key comes in between."""
    keys = torch.empty(2, dtype=torch.int64).random_(2**32, generator=generator).tolist()
    words, shifted = np.arange(count, dtype=np.uint32), np.empty(count, np.uint32)
    for key, (shift, factor) in zip(keys, _MIXING, strict=True):
        words += np.uint32(key)
        words ^= np.right_shift(words, shift, out=shifted)
        words *= np.uint32(factor)
    words ^= np.right_shift(words, 16, out=shifted)
    return words


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
    words = random_words((2, half), generator)
    words[0].bitwise_or_(1)  # the logarithm of zero is no radius
    radius, angle = words.float()
    radius.mul_(2**-31).abs_().log_().mul_(-2).sqrt_()
    angle.mul_(math.pi / 2**31)
    normal = torch.empty(2, half)
    torch.cos(angle, out=normal[0])
    torch.sin(angle, out=normal[1])
    return normal.mul_(radius).view(-1)[:count].view(*shape)
