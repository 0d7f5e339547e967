"""Loops over pixels in C, where they were built: what NumPy and OpenCV need many passes for.

The library is source/pixels.so, built as that of `restore.layers.compiled` is, and switched off as it is:
`RESTORE_COMPILED=0`, or `avx2` for less than the processor can do. Every function here gives None where it is not
there; the caller then goes another way, to the same result.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

__all__ = ["Sums", "block_sums", "description", "resized", "sum_of_similarity", "unfiltered"]

PATH = Path(os.environ.get("RESTORE_PIXELS_LIBRARY") or Path(__file__).parent / "source" / "pixels.so")
"""Another file where the variable names one: a build for tests."""
VARIABLE = "RESTORE_COMPILED"
LEVELS = {"neon": 0, "avx2": 1, "avx512": 2}
"""Kinds of code, by their numbers in source/pixels.c."""


class _Channel(ctypes.Structure):
    """`struct channel` of source/pixels.c."""

    _fields_ = [
        ("x", ctypes.c_void_p),
        ("y", ctypes.c_void_p),
        *((name, ctypes.c_int64) for name in ("height", "width", "row_stride", "pixel_stride")),
        ("taps", ctypes.c_void_p),
        ("white", ctypes.c_double),
        ("is_double", ctypes.c_int32),
        ("level", ctypes.c_int32),
    ]


class Sums(NamedTuple):
    """How the lines of a result along one axis are made of lines that follow each other.

    Attributes:
        first: (target,) int32, the first line of each sum.
        weights: (target, taps) float32 or float64, contiguous.
    """

    first: np.ndarray
    weights: np.ndarray


class _Axis(ctypes.Structure):
    """`struct axis` of source/pixels.c."""

    _fields_ = [
        ("in_", ctypes.c_void_p),
        ("out", ctypes.c_void_p),
        *((name, ctypes.c_int64) for name in ("num_planes", "height", "width", "target")),
        ("first", ctypes.c_void_p),
        ("weights", ctypes.c_void_p),
        *((name, ctypes.c_int32) for name in ("num_taps", "is_vertical", "is_double", "level")),
    ]


class _Blocks(ctypes.Structure):
    """`struct blocks` of source/pixels.c."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("levels", "sums", "space")),
        *((name, ctypes.c_int64) for name in ("height", "width", "block")),
        ("taps", ctypes.c_void_p),
        ("least", ctypes.c_double),
        ("level", ctypes.c_int32),
    ]


def _load(path: Path, wanted: str) -> tuple[ctypes.CDLL | None, int]:
    """The library and the kind of code to run; None where it is absent, switched off, or of no use here."""
    if wanted in ("0", "off") or not path.is_file():
        return None, 0
    try:
        library = ctypes.CDLL(str(path))
        library.restore_unfilter.argtypes = [ctypes.c_void_p, ctypes.c_void_p, *[ctypes.c_int64] * 3]
        library.restore_resize.argtypes = [ctypes.POINTER(_Axis)]
        library.restore_resize.restype = None
        library.restore_ssim.argtypes = [ctypes.POINTER(_Channel)]
        library.restore_ssim.restype = ctypes.c_double
        library.restore_blocks.argtypes = [ctypes.POINTER(_Blocks)]
        library.restore_blocks.restype = None
        best = library.restore_pixels_level()
    except (OSError, AttributeError):  # no library, or one that was built of older sources
        return None, 0
    return library, min(best, LEVELS.get(wanted, best))


_library, _level = _load(PATH, os.environ.get(VARIABLE, "").strip().lower())


def description() -> str:
    """Which kind of code is used, or that none is."""
    if _library is None:
        return "none, NumPy and OpenCV instead"
    return ("portable", "avx2", "avx512")[_level]


def unfiltered(filtered: bytes, num_rows: int, row_bytes: int, step: int) -> np.ndarray | None:
    """The bytes of rows of a PNG file, (num_rows, row_bytes), without their filters.

    Args:
        filtered: inflated rows, each a filter's number and `row_bytes` bytes.
        num_rows: how many of them are wanted.
        row_bytes: of a row.
        step: bytes from one pixel to the next.

    Raises:
        ValueError: there is no such filter.
    """
    if _library is None:
        return None
    assert len(filtered) >= num_rows * (1 + row_bytes), (len(filtered), num_rows, row_bytes)
    rows = np.empty((num_rows, row_bytes), np.uint8)
    if _library.restore_unfilter(filtered, rows.ctypes.data, num_rows, row_bytes, step):
        raise ValueError("the pixel data are damaged (an unknown filter)")
    return rows


def sum_of_similarity(x: np.ndarray, y: np.ndarray, taps: np.ndarray) -> float | None:
    """The sum of SSIM over all windows of 11 x 11 pixels and all channels, in double precision.

    Args:
        x: (H, W, C), uint8 with white 255, or float64 with white 1; any strides of whole numbers, at least 11 x 11.
        y: the same in kind, size and strides.
        taps: (11,) float64, of the window.
    """
    if _library is None or x.strides != y.strides or any(stride % x.itemsize for stride in x.strides):
        return None
    assert x.shape == y.shape, (x.shape, y.shape)
    assert x.dtype == y.dtype, (x.dtype, y.dtype)
    assert x.dtype in (np.uint8, np.float64), x.dtype
    taps = np.ascontiguousarray(taps, np.float64)
    height, width, num_channels = x.shape
    row, pixel, channel = (stride // x.itemsize for stride in x.strides)
    is_double = x.dtype == np.float64
    total = 0.0
    for number in range(num_channels):
        start = number * channel * x.itemsize
        problem = _Channel(
            x.ctypes.data + start,
            y.ctypes.data + start,
            height,
            width,
            row,
            pixel,
            taps.ctypes.data,
            1.0 if is_double else 255.0,
            is_double,
            _level,
        )
        total += _library.restore_ssim(ctypes.byref(problem))
    return total


def resized(planes_NRC: np.ndarray, sums: Sums, axis: int) -> np.ndarray | None:
    """Planes whose rows (axis 0) or columns (axis 1) are weighted sums of those that come in.

    Args:
        planes_NRC: contiguous, of the type of the weights.
        sums: of lines that are all there.
        axis: 0 or 1.
    """
    if _library is None:
        return None
    num_planes, *size = planes_NRC.shape
    target, num_taps = sums.weights.shape
    assert planes_NRC.dtype == sums.weights.dtype, (planes_NRC.dtype, sums.weights.dtype)
    assert planes_NRC.flags.c_contiguous, planes_NRC.strides
    assert sums.weights.flags.c_contiguous, sums.weights.strides
    assert sums.first.dtype == np.int32, sums.first.dtype
    assert sums.first.min() >= 0, sums.first.min()
    assert sums.first.max() + num_taps <= size[axis], (sums.first.max(), num_taps, size)
    shape = (target, size[1]) if axis == 0 else (size[0], target)
    result = np.empty((num_planes, *shape), planes_NRC.dtype)
    problem = _Axis(
        planes_NRC.ctypes.data,
        result.ctypes.data,
        num_planes,
        *size,
        target,
        sums.first.ctypes.data,
        sums.weights.ctypes.data,
        num_taps,
        axis == 0,
        planes_NRC.dtype == np.float64,
        _level,
    )
    _library.restore_resize(ctypes.byref(problem))
    return result


def block_sums(levels: np.ndarray, block_px: int, taps: np.ndarray, least: float) -> np.ndarray | None:
    """Sums over the locally normalised values of each block, and over their products with neighbours, for NIQE.

    A value is its difference from the local mean, divided by the local deviation plus one; the border is repeated.

    Args:
        levels: (H, W) float64 in [0, 255], of whole blocks.
        block_px: side of a block, 48 or 96.
        taps: (7,) float64, symmetric, of the window of the local mean.
        least: what differs less from its local mean does not differ.

    Returns:
        (K, 5, 5) float64, blocks row by row. Second dimension: the values, and their products with the pixel to the
        left, above, above to the left and above to the right, where the borders of a block are joined. Third: the sum
        of squares of what is negative, of what is positive, of magnitudes, and how many are negative, and positive.
    """
    if _library is None:
        return None
    height, width = levels.shape
    assert block_px in (48, 96), block_px
    assert height % block_px == width % block_px == 0, (levels.shape, block_px)
    assert (levels.dtype, taps.dtype, taps.shape) == (np.float64, np.float64, (7,)), (levels.dtype, taps)
    levels = np.ascontiguousarray(levels)
    sums = np.empty((height // block_px * (width // block_px), 5, 5))
    space = np.empty(block_px * width + 2 * (width + 6))
    pointers = (array.ctypes.data for array in (levels, sums, space))
    problem = _Blocks(*pointers, height, width, block_px, taps.ctypes.data, least, _level)
    _library.restore_blocks(ctypes.byref(problem))
    return sums
