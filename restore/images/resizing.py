"""Image resizing that agrees with MATLAB's `imresize`, by which the low-resolution images of the field are made.

Each axis is a matrix product with a banded matrix of kernel weights; these are kept sparse and cached. On the
processor, sums of few pixels, as in enlarging, are computed by the library of `restore.images.compiled`. The kernel is
widened when shrinking (antialiasing), centres of pixels are aligned, the borders are mirrored with the edge repeated,
and the axis that shrinks most goes first. Source: the behaviour of MATLAB R2017b and later, and R. G. Keys, "Cubic
Convolution Interpolation for Digital Image Processing", 1981 (a = -0.5).

x_BCHW: an image batch; planes_NRC: its N = B*C planes of R rows and C columns.
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from restore.errors import ImageError, nearest
from restore.images import compiled
from restore.images.image import checked, to_pixels, to_tensor

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

__all__ = ["KERNELS", "axis_matrix", "axis_sums", "product", "resize", "resize_pixels", "shrinking_order"]

FEW_TAPS = 8
"""Longer sums are faster as products with a sparse matrix."""


def _box(x: np.ndarray) -> np.ndarray:
    return ((x >= -0.5) & (x < 0.5)).astype(np.float64)


def _linear(x: np.ndarray) -> np.ndarray:
    return np.maximum(1 - np.abs(x), 0)


def _cubic(x: np.ndarray) -> np.ndarray:
    x = np.abs(x)
    near = (1.5 * x - 2.5) * x**2 + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x <= 1, near, np.where(x <= 2, far, 0))


def _lanczos(lobes: int) -> Callable[[np.ndarray], np.ndarray]:
    return lambda x: np.where(np.abs(x) < lobes, np.sinc(x) * np.sinc(x / lobes), 0)


KERNELS: dict[str, tuple[Callable[[np.ndarray], np.ndarray], float]] = {
    "box": (_box, 1),
    "linear": (_linear, 2),
    "cubic": (_cubic, 4),
    "lanczos2": (_lanczos(2), 4),
    "lanczos3": (_lanczos(3), 6),
}
"""Interpolation kernels and the width of their support, in pixels."""


def resize(
    x_BCHW: Tensor,
    *,
    scale: float | Sequence[float] | None = None,
    size: Sequence[int] | None = None,
    kernel: str = "cubic",
    antialias: bool = True,
) -> Tensor:
    """Resize a batch of images, differentiably, on its own device.

    Args:
        x_BCHW: any number of channels, floating point, any range. The result is not clamped.
        scale: factor for both axes, or (vertical, horizontal); the new size is rounded up.
        size: the new (H, W) instead, or with `scale`, which then only fixes where the kernel lies.
        kernel: one of `KERNELS`.
        antialias: widen the kernel when shrinking.

    Raises:
        ImageError: neither scale nor size is given, one is not positive, or the kernel is unknown.
    """
    if x_BCHW.ndim != 4 or not x_BCHW.is_floating_point():
        raise ImageError(f"a floating-point tensor (B, C, H, W) is needed; given: {x_BCHW.dtype} {tuple(x_BCHW.shape)}")
    if kernel not in KERNELS:
        raise ImageError(f"unknown kernel '{kernel}'.{nearest(kernel, KERNELS)} Known: {', '.join(KERNELS)}.")
    scales, sizes = _target(x_BCHW.shape[-2:], scale, size)
    dtype = x_BCHW.dtype if x_BCHW.dtype == torch.float64 else torch.float32
    planes_NRC = x_BCHW.flatten(0, 1).to(dtype)
    with torch.autocast(x_BCHW.device.type, enabled=False):
        for axis in shrinking_order(scales):
            length = x_BCHW.shape[2 + axis]
            if (length, 1.0) == (sizes[axis], scales[axis]):
                continue
            how = (length, sizes[axis], scales[axis], kernel, antialias)
            summed = _summed(planes_NRC, how, axis)
            planes_NRC = _along(planes_NRC, _weights(*how, x_BCHW.device, dtype), axis) if summed is None else summed
    return planes_NRC.reshape(*x_BCHW.shape[:2], *sizes).to(x_BCHW.dtype)


def resize_pixels(
    pixels: np.ndarray,
    *,
    scale: float | Sequence[float] | None = None,
    size: Sequence[int] | None = None,
    kernel: str = "cubic",
    antialias: bool = True,
    round_each_axis: bool = True,
) -> np.ndarray:
    """`resize` for pixels, clamped to their range.

    Args:
        pixels: grey or colour, any depth.
        scale: as for `resize`.
        size: as for `resize`.
        kernel: as for `resize`.
        antialias: as for `resize`.
        round_each_axis: integers are rounded after each axis, halves up, as MATLAB does: that gives published
            low-resolution images to the last bit. False: once at the end, as most Python tools do.
    """
    pixels = checked(pixels)
    if pixels.dtype.kind == "f":
        x_BCHW = resize(to_tensor(pixels), scale=scale, size=size, kernel=kernel, antialias=antialias)
        return to_pixels(x_BCHW, pixels.dtype)
    scales, sizes = _target(pixels.shape[:2], scale, size)
    x_BCHW = torch.from_numpy(pixels.reshape(*pixels.shape[:2], -1).astype(np.float64)).permute(2, 0, 1)[None]
    for axes in [(axis,) for axis in shrinking_order(scales)] if round_each_axis else [(0, 1)]:
        step_scale = [scales[axis] if axis in axes else 1.0 for axis in (0, 1)]
        step_size = [sizes[axis] if axis in axes else x_BCHW.shape[2 + axis] for axis in (0, 1)]
        x_BCHW = resize(x_BCHW, scale=step_scale, size=step_size, kernel=kernel, antialias=antialias)
        x_BCHW = (x_BCHW + 0.5).floor_().clamp_(0, np.iinfo(pixels.dtype).max)
    return checked(x_BCHW[0].permute(1, 2, 0).numpy().astype(pixels.dtype, order="C"))


def shrinking_order(scales: Sequence[float]) -> list[int]:
    """The axes, the one that shrinks most first."""
    return sorted((0, 1), key=lambda axis: scales[axis])


def _target(
    shape: Sequence[int], scale: float | Sequence[float] | None, size: Sequence[int] | None
) -> tuple[tuple[float, ...], tuple[int, ...]]:
    """Scales and sizes of both axes."""
    if scale is None and size is None:
        raise ImageError("resize needs a scale or a size")
    if scale is None:
        scales = tuple(target / length for target, length in zip(size, shape, strict=True))
    else:
        scales = tuple(map(float, scale)) if isinstance(scale, Sequence) else (float(scale),) * 2
    if size is None:
        # a hair less than the product, so that 1/3 of 9 pixels, computed as 3.0000000000000004, does not become 4
        size = [math.ceil(length * factor - 1e-9 * length) for length, factor in zip(shape, scales, strict=True)]
    sizes = tuple(map(int, size))
    if len(scales) != 2 or not all(math.isfinite(factor) and factor > 0 for factor in scales) or min(sizes) < 1:
        raise ImageError(f"cannot resize {tuple(shape)} by {scale} to {sizes}: both must be positive, for two axes")
    return scales, sizes


@functools.lru_cache(maxsize=64)
def _weights(
    length: int, target: int, scale: float, kernel: str, antialias: bool, device: torch.device, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """The matrix (target, length) that resizes one axis, and its transpose for the gradient."""
    matrix = axis_matrix(length, target, scale, kernel, antialias)
    return _to_torch(matrix, device, dtype), _to_torch(matrix.T.tocsr(), device, dtype)


def axis_matrix(length: int, target: int, scale: float, kernel: str, antialias: bool) -> csr_matrix:
    """The matrix (target, length) that resizes one axis, its columns in order."""
    from scipy.sparse import csr_matrix

    function, width = KERNELS[kernel]
    shrink = min(scale, 1.0) if antialias else 1.0
    width = width / shrink
    centres = (np.arange(target) + 0.5) / scale - 0.5
    taps = np.floor(centres - width / 2)[:, None] + np.arange(math.ceil(width) + 2)
    weights = function((centres[:, None] - taps) * shrink)
    weights /= weights.sum(1, keepdims=True)
    mirrored = taps.astype(np.int64) % (2 * length)
    columns = np.minimum(mirrored, 2 * length - 1 - mirrored)
    rows = np.broadcast_to(np.arange(target)[:, None], columns.shape)
    matrix = csr_matrix((weights.ravel(), (rows.ravel(), columns.ravel())), shape=(target, length))
    matrix.eliminate_zeros()
    matrix.sort_indices()
    return matrix


def _summed(planes_NRC: Tensor, how: tuple[int, int, float, str, bool], axis: int) -> Tensor | None:
    """The planes resized along an axis by the compiled library; None where that is not for it."""
    if planes_NRC.device.type != "cpu" or type(planes_NRC) is not Tensor or torch.compiler.is_compiling():
        return None
    if planes_NRC.requires_grad and torch.is_grad_enabled():
        return None
    sums = axis_sums(*how, planes_NRC.dtype == torch.float64)
    if sums is None:
        return None
    result = compiled.resized(planes_NRC.detach().contiguous().numpy(), sums, axis)
    return None if result is None else torch.from_numpy(result)


@functools.lru_cache(maxsize=64)
def axis_sums(
    length: int, target: int, scale: float, kernel: str, antialias: bool, is_double: bool
) -> compiled.Sums | None:
    """What `axis_matrix` does, as sums of neighbours; None where they are long."""
    matrix = axis_matrix(length, target, scale, kernel, antialias)
    starts, last = matrix.indptr[:-1], matrix.indptr[1:] - 1
    spans = matrix.indices[last] - matrix.indices[starts] + 1
    if spans.max() > min(FEW_TAPS, length):
        return None
    num_taps = spans.max()
    first = np.minimum(matrix.indices[starts], length - num_taps)
    weights = np.zeros((target, num_taps))
    rows = np.repeat(np.arange(target), np.diff(matrix.indptr))
    weights[rows, matrix.indices - first[rows]] = matrix.data
    return compiled.Sums(first.astype(np.int32), weights.astype(np.float64 if is_double else np.float32))


def _to_torch(matrix: object, device: torch.device, dtype: torch.dtype) -> Tensor:
    """A sparse tensor where torch multiplies those quickly, a dense one elsewhere."""
    if not (device.type == "cuda" or (device.type == "cpu" and torch.backends.mkl.is_available())):
        return torch.from_numpy(matrix.toarray()).to(dtype).to(device)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
        return torch.sparse_csr_tensor(
            torch.from_numpy(matrix.indptr),
            torch.from_numpy(matrix.indices),
            torch.from_numpy(matrix.data).to(dtype),
            matrix.shape,
            device=device,
            check_invariants=True,
        )


def _along(planes_NRC: Tensor, weights: tuple[Tensor, Tensor], axis: int) -> Tensor:
    if axis == 0:
        return _Product.apply(planes_NRC, *weights)
    return _Product.apply(planes_NRC.mT, *weights).mT


def product(matrix: csr_matrix, planes_NRC: Tensor) -> Tensor:
    """A matrix times each plane, in the type of the planes; without gradients."""
    of_torch = _to_torch(matrix, planes_NRC.device, planes_NRC.dtype)
    with torch.no_grad():
        result: Tensor = _Product.apply(planes_NRC, of_torch, of_torch)
    return result


class _Product(torch.autograd.Function):
    """A constant matrix times each plane; its gradient is the product with the transpose."""

    @staticmethod
    def forward(ctx, planes_NRC: Tensor, matrix: Tensor, transposed: Tensor) -> Tensor:
        ctx.matrices = matrix, transposed
        num_planes, num_rows, num_columns = planes_NRC.shape
        if num_planes <= 8:  # few large planes: no copy
            product = planes_NRC.new_empty(num_planes, matrix.shape[0], num_columns)
            for plane_RC, result_RC in zip(planes_NRC, product, strict=True):
                torch.mm(matrix, plane_RC.contiguous(), out=result_RC)
            return product
        side_by_side = planes_NRC.transpose(0, 1).reshape(num_rows, num_planes * num_columns)
        return (matrix @ side_by_side).unflatten(1, (num_planes, num_columns)).transpose(0, 1)

    @staticmethod
    def backward(ctx, grad_NRC: Tensor) -> tuple[Tensor, None, None]:
        matrix, transposed = ctx.matrices
        return _Product.apply(grad_NRC, transposed, matrix), None, None
