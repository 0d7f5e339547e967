"""What networks compute in another way while they are exported, so that one file holds for images of every size.

A network is exported by running it once and writing down what it did. Whatever was settled by the size of that one
image would hold for it alone: a branch, a number that Python computed, the length of a tensor. And the formats lack
some operations, or have them for fixed sizes only; here these are products of matrices, which are made of counted
positions. Outside of an export, torch's own functions are called, where these are right.

Shape legend: B batch, C channels, H x W map, F = W // 2 + 1 columns of frequencies, h x w the size that is wanted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F

from restore.errors import RestoreError
from restore.layers.precision import without_autocast

__all__ = [
    "FixedSizeError",
    "adaptive_means",
    "ceil_divide",
    "complex_product",
    "frequencies",
    "from_frequencies",
    "is_exporting",
    "is_of_size",
    "resized_with_filter",
    "unflattened",
]


class FixedSizeError(RestoreError, RuntimeError):
    """A network is exported that is made anew for each size of image, so that no one file could hold for all."""


def is_exporting() -> bool:
    """Whether the network is being exported or traced, so that no branch may look at heights and widths."""
    return torch.jit.is_tracing() or getattr(torch.compiler, "is_exporting", lambda: False)()


def is_of_size(size: Sequence[int], wanted: Sequence[int]) -> bool:
    """Whether nothing has to be resized; while exporting it always has, as other images have other sizes."""
    return not is_exporting() and tuple(size) == tuple(wanted)


def ceil_divide(number: int, divisor: int) -> int:
    """The quotient of positive numbers, rounded up. (`-(-a // b)` is rounded towards 0 in an exported network.)"""
    return (number + divisor - 1) // divisor


def unflattened(x: torch.Tensor, dim: int, sizes: Sequence[int]) -> torch.Tensor:
    """`x.unflatten(dim, sizes)` for sizes of the image, of which an ONNX file would keep those of the first alone."""
    return x.reshape(*x.shape[:dim], *sizes, *x.shape[dim + 1 :])


def resized_with_filter(
    x_BCHW: torch.Tensor, size: Sequence[int], mode: Literal["bilinear", "bicubic"] = "bilinear"
) -> torch.Tensor:
    """(B, C, h, w): what `interpolate` with `antialias` means: a position of a coarser map is a mean of the finer one.

    It is computed in this way always: on the processor, PyTorch 2.14 gives every row of a map of one column the values
    of its first (`interpolate(torch.eye(12)[None, :, :, None], (2, 1), mode="bilinear", antialias=True)`).
    """
    exact_BCHW = x_BCHW.to(torch.promote_types(x_BCHW.dtype, torch.float32))
    with without_autocast(x_BCHW):
        rows, columns = (
            _filter_matrix(old, new, mode, exact_BCHW) for old, new in zip(x_BCHW.shape[2:], size, strict=True)
        )
        return (rows @ exact_BCHW @ columns.T).to(x_BCHW.dtype)


def adaptive_means(x_BCHW: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """(B, C, h, w): `adaptive_avg_pool2d`."""
    if not is_exporting():
        return F.adaptive_avg_pool2d(x_BCHW, (size[0], size[1]))
    rows, columns = (_mean_matrix(old, new, x_BCHW) for old, new in zip(x_BCHW.shape[2:], size, strict=True))
    return rows @ x_BCHW @ columns.T


def frequencies(x_BCHW: torch.Tensor) -> torch.Tensor:
    """Real and imaginary parts (B, C, H, F, 2) of the orthonormal Fourier transform of real maps."""
    if not is_exporting():
        return torch.view_as_real(torch.fft.rfft2(x_BCHW, norm="ortho"))
    H, W = x_BCHW.shape[2:]
    cosine, sine = _waves(W, x_BCHW, W // 2 + 1)
    real, imaginary = x_BCHW @ cosine, -(x_BCHW @ sine)
    cosine, sine = _waves(H, x_BCHW)
    return torch.stack([cosine @ real + sine @ imaginary, cosine @ imaginary - sine @ real], dim=-1)


def from_frequencies(parts_BCHF2: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """The real maps (B, C, H, W) whose orthonormal Fourier transform this is."""
    H, W = size
    if not is_exporting():
        return torch.fft.irfft2(_as_complex(parts_BCHF2), s=(H, W), norm="ortho")
    real, imaginary = parts_BCHF2.unbind(-1)
    cosine, sine = _waves(H, real)
    real, imaginary = cosine @ real - sine @ imaginary, cosine @ imaginary + sine @ real
    num_columns = W // 2 + 1
    cosine, sine = _waves(W, real, num_columns)
    # every column but that of the mean, and the last of an even number, stands for two
    place = torch.arange(num_columns, device=real.device)
    twice = 1 + ((place > 0) & (2 * place != W)).to(real.dtype)
    return (real * twice) @ cosine.T - (imaginary * twice) @ sine.T


def complex_product(a_2: torch.Tensor, b_2: torch.Tensor) -> torch.Tensor:
    """The product of complex numbers, whose real and imaginary parts are in the last dimension of either and of it."""
    if not is_exporting():
        return torch.view_as_real(_as_complex(a_2) * _as_complex(b_2))
    (a, b), (c, d) = a_2.unbind(-1), b_2.unbind(-1)
    return torch.stack([a * c - b * d, a * d + b * c], dim=-1)


def _waves(length: int, like: torch.Tensor, num_frequencies: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """(length, num_frequencies) cosines and sines, so scaled that the transform of all frequencies is orthonormal."""
    place = torch.arange(length, device=like.device)
    number = place if num_frequencies is None else torch.arange(num_frequencies, device=like.device)
    whole = torch.zeros((), dtype=place.dtype, device=like.device) + length
    turns = (place[:, None] * number % whole).to(like.dtype) / whole.to(like.dtype)
    scale = whole.to(like.dtype).rsqrt()
    return (2 * math.pi * turns).cos() * scale, (2 * math.pi * turns).sin() * scale


def _filter_matrix(old: int, new: int, mode: str, like: torch.Tensor) -> torch.Tensor:
    """(new, old): the matrix that resizes a row as PyTorch does with `antialias`."""
    zero = torch.zeros((), dtype=like.dtype, device=like.device)
    scale = (zero + old) / (zero + new)
    stretch, reach = scale.clamp(min=1), 1 if mode == "bilinear" else 2
    centre = scale * (torch.arange(new, device=like.device).to(like.dtype)[:, None] + 0.5)
    place = torch.arange(old, device=like.device).to(like.dtype) + 0.5
    way = ((place - centre) / stretch).abs()
    if mode == "bilinear":
        weight = (1 - way).clamp(min=0)
    else:  # Keys' cubic with a = -1/2
        near, far = (1.5 * way - 2.5) * way**2 + 1, ((-0.5 * way + 2.5) * way - 4) * way + 2
        weight = torch.where(way < 1, near, torch.where(way < reach, far, torch.zeros_like(way)))
    return weight / weight.sum(dim=1, keepdim=True)


def _mean_matrix(old: int, new: int, like: torch.Tensor) -> torch.Tensor:
    """(new, old): the matrix of means of the parts that `adaptive_avg_pool2d` has."""
    number = torch.arange(new, device=like.device)[:, None]
    place = torch.arange(old, device=like.device)
    inside = (place >= number * old // new) & (place < ((number + 1) * old + new - 1) // new)
    weight = inside.to(like.dtype)
    return weight / weight.sum(dim=1, keepdim=True)


def _as_complex(parts_2: torch.Tensor) -> torch.Tensor:
    """Pairs as complex numbers. Torch 2.6 looks at the strides of dimensions of one, too, and wants them even."""
    if any(stride % 2 for stride in parts_2.stride()[:-1]):
        return torch.view_as_complex(parts_2.clone(memory_format=torch.contiguous_format))
    return torch.view_as_complex(parts_2.contiguous())
