"""Blur: an own kernel for every sample, applied to each channel by itself, with mirrored borders.

On the CPU a kernel is cut down to where it is not zero; then a separable one is applied as such, a small one directly
and the others through the Fourier transform; the result is the same to 1e-5. Elsewhere one grouped convolution does the
batch. Unsharp masking, with its wide Gaussian, is a product with banded matrices: in strips on the CPU, else whole.
"""

from __future__ import annotations

import functools
import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Annotated

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from pydantic import AfterValidator, Field

from restore.degradations.operators import kernels
from restore.degradations.operators.base import (
    Operator,
    column,
    from_planes,
    joined,
    on_images,
    operator,
    to_planes,
    uses_opencv,
)

__all__ = [
    "Decimate",
    "DefocusBlur",
    "GaussianBlur",
    "GeneralizedGaussianBlur",
    "MotionBlur",
    "PlateauBlur",
    "Ringing",
    "SincBlur",
    "Usm",
    "filter_2d",
    "reflect_pad",
]


def _odd(size: int) -> int:
    if size % 2 == 0:
        raise ValueError(f"a kernel needs an odd size, so that it has a centre; try {size - 1} or {size + 1}")
    return size


KernelSize = Annotated[int, Field(ge=1), AfterValidator(_odd)]
Sigma = Annotated[float, Field(gt=0)]
_SMALL_PX = 11  # up to here OpenCV filters directly,
_SMALL_IMAGE_PX = 96**2  # and in images of this size by any kernel
_SEPARABLE_TOLERANCE = 1e-9  # of the largest value of a kernel
_CROP_TOLERANCE = 1e-6  # of the sum of a kernel's absolute values
_STRIP_PX, _BLOCK_PX = 16, 256  # rows or columns that a matrix filters at once, and the pixels along them


class KernelBlur(Operator):
    """Base of the operators that are one filter."""

    size: int

    @abstractmethod
    def kernel(self) -> np.ndarray:
        """The (size, size) kernel, float64, which sums to one."""

    @classmethod
    def apply(cls, x_BCHW: torch.Tensor, samples: Sequence[KernelBlur]) -> torch.Tensor:
        """Filter each image by its sample's kernel."""
        return filter_2d(x_BCHW, [sample.kernel() for sample in samples])

    def on_pixels(self, image: np.ndarray) -> np.ndarray:
        """Filter one image."""
        return _filter_image(image, self.kernel())


@operator("gaussian_blur")
class GaussianBlur(KernelBlur):
    """Gaussian blur; elliptic if `sigma_y` is given, and with its centre moved by `shift_px` right and down."""

    size: KernelSize = 21
    sigma: Sigma
    sigma_y: Sigma | None = None
    angle: float = 0.0
    shift_px: float = 0.0

    def kernel(self) -> np.ndarray:
        """The kernel."""
        return kernels.gaussian(self.size, self.sigma, self.sigma_y or self.sigma, self.angle, self.shift_px)


@operator("generalized_gaussian_blur")
class GeneralizedGaussianBlur(KernelBlur):
    """Blur by exp(-q^beta / 2); round unless `sigma_y` is given."""

    size: KernelSize = 21
    sigma: Sigma
    sigma_y: Sigma | None = None
    angle: float = 0.0
    beta: Annotated[float, Field(gt=0)]

    def kernel(self) -> np.ndarray:
        """The kernel."""
        return kernels.generalized_gaussian(self.size, self.sigma, self.sigma_y or self.sigma, self.angle, self.beta)


@operator("plateau_blur")
class PlateauBlur(GeneralizedGaussianBlur):
    """Blur by 1 / (1 + q^beta); round unless `sigma_y` is given."""

    def kernel(self) -> np.ndarray:
        """The kernel."""
        return kernels.plateau(self.size, self.sigma, self.sigma_y or self.sigma, self.angle, self.beta)


@operator("sinc_blur")
class SincBlur(KernelBlur):
    """Ideal low-pass filter cut off at the kernel's border: ringing and overshoot along edges."""

    size: KernelSize = 21
    cutoff: Annotated[float, Field(gt=0, le=math.pi * math.sqrt(2))]

    def kernel(self) -> np.ndarray:
        """The kernel."""
        return kernels.sinc(self.size, self.cutoff)


@operator("defocus_blur")
class DefocusBlur(KernelBlur):
    """The lens is out of focus: a uniform disk."""

    radius_px: Annotated[float, Field(gt=0, le=64)]

    @property
    def size(self) -> int:
        """Side of the kernel."""
        return 2 * math.ceil(self.radius_px) + 1

    def kernel(self) -> np.ndarray:
        """The kernel."""
        return kernels.disk(self.radius_px)


@operator("motion_blur")
class MotionBlur(KernelBlur):
    """Camera shake along a random path that fills `size` pixels; `anxiety` from 0 (a line) to about 1 (a tremor)."""

    size: KernelSize
    anxiety: Annotated[float, Field(ge=0, le=2)] = 0.3
    seed: int = 0

    def kernel(self, num_steps: int = 256) -> np.ndarray:
        """The kernel."""
        generator = torch.Generator().manual_seed(self.seed)
        uniforms = torch.rand(num_steps, dtype=torch.float64, generator=generator)
        normals = torch.randn(num_steps + 1, 2, dtype=torch.float64, generator=generator)
        return kernels.motion(self.size, uniforms.numpy(), normals.numpy(), anxiety=self.anxiety)


@operator("ringing")
class Ringing(Operator):
    """Everything above `cutoff` times the Nyquist frequency is removed: the Gibbs phenomenon over the whole image."""

    cutoff: Annotated[float, Field(gt=0, le=math.sqrt(2))]

    @classmethod
    def apply(cls, x_BCHW: torch.Tensor, samples: Sequence[Ringing], margin_px: int = 16) -> torch.Tensor:
        """Filter in the frequency domain; mirrored borders keep the edges of the image quiet."""
        height, width = x_BCHW.shape[-2:]
        padded = reflect_pad(x_BCHW, margin_px).contiguous()
        size = padded.shape[-2:]
        spectra = [torch.from_numpy(kernels.ringing_spectrum(*size, sample.cutoff)) for sample in samples]
        spectrum = torch.stack(spectra)[:, None].to(x_BCHW)
        filtered = torch.fft.irfft2(torch.fft.rfft2(padded) * spectrum, s=size)
        return filtered[..., margin_px : margin_px + height, margin_px : margin_px + width]


@operator("decimate")
class Decimate(Operator):
    """Keeps every `factor`-th pixel in each direction, beginning with number `offset_px`."""

    factor: Annotated[int, Field(ge=1)]
    offset_px: Annotated[int, Field(ge=0)] = 0

    def group(self) -> tuple[int, int]:
        """What decides the size of the result."""
        return self.factor, self.offset_px

    @classmethod
    def apply(cls, x_BCHW: torch.Tensor, samples: Sequence[Decimate]) -> torch.Tensor:
        """Take every factor-th pixel; all samples must agree."""
        factor, offset = samples[0].group()
        return x_BCHW[..., min(offset, x_BCHW.shape[-2] - 1) :: factor, min(offset, x_BCHW.shape[-1] - 1) :: factor]


@operator("usm")
class Usm(Operator):
    """Unsharp masking where the image differs from its blurred self by more than a threshold (Real-ESRGAN).

    With radius r the Gaussian has r pixels (r + 1 if r is even) and sigma 0.3 ((r - 1) / 2 - 1) + 0.8.
    """

    weight: Annotated[float, Field(ge=0)] = 0.5
    radius_px: Annotated[int, Field(ge=1)] = 50
    threshold: Annotated[float, Field(ge=0, le=255)] = 10.0

    def group(self) -> int:
        """Samples in one call share the Gaussian."""
        return self.radius_px

    @classmethod
    def apply(cls, x_BCHW: torch.Tensor, samples: Sequence[Usm]) -> torch.Tensor:
        """Sharpen; the result is in [0, 1]."""
        if uses_opencv(x_BCHW):
            return on_images(x_BCHW, samples)
        down, across = (_gaussian_matrix(px, samples[0].radius_px).to(x_BCHW) for px in x_BCHW.shape[-2:])
        with torch.autocast(x_BCHW.device.type, enabled=False):
            residual = x_BCHW - down @ x_BCHW @ across.T
            threshold = column(x_BCHW, [sample.threshold / 255 for sample in samples])
            soft_mask = down @ residual.detach().abs().gt_(threshold) @ across.T
        sharp = (residual * column(x_BCHW, [sample.weight for sample in samples])).add_(x_BCHW).clamp_(0, 1)
        return torch.lerp(x_BCHW, sharp, soft_mask)

    def on_pixels(self, image: np.ndarray) -> np.ndarray:
        """Sharpen one image."""
        strip = _gaussian_strip(self.radius_px)
        planes = to_planes(image)
        rows = planes.reshape(-1, planes.shape[-1])
        blurred = _filter_in_strips(planes, strip).reshape(rows.shape)
        residual = cv2.absdiff(rows, blurred)
        _, mask = cv2.threshold(residual, self.threshold / 255, 1, cv2.THRESH_BINARY, dst=residual)
        soft_mask = _filter_in_strips(mask.reshape(planes.shape), strip)
        sharp = torch.from_numpy(cv2.addWeighted(rows, 1 + self.weight, blurred, -self.weight, 0)).clamp_(0, 1)
        sharpened = torch.from_numpy(rows).lerp(sharp, torch.from_numpy(soft_mask.reshape(rows.shape)))
        return from_planes(sharpened.numpy().reshape(planes.shape))


def filter_2d(x_BCHW: torch.Tensor, per_sample: Sequence[np.ndarray]) -> torch.Tensor:
    """Filter each image by its own square kernel of odd size (correlation), with mirrored borders of any width."""
    if uses_opencv(x_BCHW):
        pairs = zip(x_BCHW.numpy(), per_sample, strict=True)
        filtered = [_filter_image(from_planes(planes), kernel) for planes, kernel in pairs]
        return joined([torch.from_numpy(to_planes(image)) for image in filtered])
    size = max(len(kernel) for kernel in per_sample)
    padded = [np.pad(kernel, (size - len(kernel)) // 2) for kernel in per_sample]
    weight = torch.from_numpy(np.stack(padded)).to(x_BCHW)[:, None]
    batch, channels, height, width = x_BCHW.shape
    maps = reflect_pad(x_BCHW, size // 2).reshape(1, batch * channels, height + size - 1, width + size - 1)
    weight = weight.repeat_interleave(channels, dim=0)
    return F.conv2d(maps, weight, groups=batch * channels).view(batch, channels, height, width)


def reflect_pad(x_BCHW: torch.Tensor, margin_px: int) -> torch.Tensor:
    """Mirror about the border pixels, again and again where the margin is wider than the image."""
    if margin_px < min(x_BCHW.shape[-2:]):
        return F.pad(x_BCHW, [margin_px] * 4, mode="reflect")
    rows, columns = (_mirrored(length, margin_px).to(x_BCHW.device) for length in x_BCHW.shape[-2:])
    return x_BCHW.index_select(-2, rows).index_select(-1, columns)


def _mirrored(length: int, margin_px: int) -> torch.Tensor:
    period = max(2 * (length - 1), 1)
    position = torch.arange(-margin_px, length + margin_px) % period
    return torch.minimum(position, period - position) if length > 1 else torch.zeros_like(position)


def _filter_in_strips(planes_PHW: np.ndarray, strip: np.ndarray) -> np.ndarray:
    """Filter across and down, as products with the matrix of a strip of columns or rows and what lies around them.

    OpenBLAS, which NumPy comes with, multiplies matrices up to this size where they lie, and in one thread. Between the
    two passes the rows of all planes lie side by side, so that one call pads them.
    """
    num_planes, height, width = planes_PHW.shape
    step, reach = strip.shape
    margin = (reach - step) // 2

    lines = planes_PHW.reshape(-1, width)
    lines = cv2.copyMakeBorder(lines, 0, 0, margin, margin + -width % step, cv2.BORDER_REFLECT_101)
    row, pixel = lines.strides
    across = np.empty((height, num_planes, -(-width // step), step), np.float32)
    shape, strides = (across.shape[2], num_planes, height, reach), (step * pixel, height * row, row, pixel)
    windows = np.ndarray(shape, np.float32, lines, strides=strides)
    columns = np.ascontiguousarray(strip.T)
    for part in _blocks(height):
        np.matmul(windows[:, :, part], columns, out=across[part].transpose(2, 1, 0, 3))

    lines = across.reshape(height, -1)
    lines = cv2.copyMakeBorder(lines, margin, margin + -height % step, 0, 0, cv2.BORDER_REFLECT_101)
    row, plane = lines.strides[0], lines.strides[0] // num_planes
    down = np.empty((num_planes, -(-height // step), step, plane // pixel), np.float32)
    shape, strides = (*down.shape[:2], reach, down.shape[3]), (plane, step * row, row, pixel)
    windows = np.ndarray(shape, np.float32, lines, strides=strides)
    for part in _blocks(down.shape[3]):
        np.matmul(strip, windows[..., part], out=down[..., part])
    return np.ascontiguousarray(down.reshape(num_planes, -1, down.shape[3])[:, :height, :width])


def _blocks(length: int) -> list[slice]:
    return [slice(start, start + _BLOCK_PX) for start in range(0, length, _BLOCK_PX)]


@functools.lru_cache(maxsize=8)
def _gaussian_matrix(length: int, radius_px: int) -> torch.Tensor:
    """The (length, length) matrix that filters a line of pixels."""
    taps = torch.from_numpy(_gaussian_taps(radius_px))
    sources = _mirrored(length, len(taps) // 2).unfold(0, len(taps), 1)
    return torch.zeros(length, length).scatter_add_(1, sources, taps.expand(length, -1))


@functools.lru_cache(maxsize=8)
def _gaussian_strip(radius_px: int) -> np.ndarray:
    """The matrix that makes a strip of filtered rows from the rows in and around it."""
    taps = _gaussian_taps(radius_px)
    matrix = np.zeros((_STRIP_PX, _STRIP_PX + len(taps) - 1), np.float32)
    for row in range(_STRIP_PX):
        matrix[row, row : row + len(taps)] = taps
    return matrix


def _gaussian_taps(radius_px: int) -> np.ndarray:
    return cv2.getGaussianKernel(radius_px | 1, 0, cv2.CV_32F)[:, 0]


def _filter_image(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    kernel = _cropped(kernel)
    y, x = np.unravel_index(np.argmax(kernel), kernel.shape)
    across, down = kernel[y], kernel[:, x] / kernel[y, x]
    if np.abs(np.outer(down, across) - kernel).max() <= _SEPARABLE_TOLERANCE * across[x]:
        return cv2.sepFilter2D(
            image, cv2.CV_32F, np.float32(across), np.float32(down), borderType=cv2.BORDER_REFLECT_101
        )
    if len(kernel) <= _SMALL_PX or image.shape[0] * image.shape[1] <= _SMALL_IMAGE_PX:
        return cv2.filter2D(image, cv2.CV_32F, np.float32(kernel), borderType=cv2.BORDER_REFLECT_101)
    return _filter_fourier(image, kernel)


def _cropped(kernel: np.ndarray) -> np.ndarray:
    """The middle of a kernel, without the rings around it that hold next to nothing."""
    rings = np.bincount(_ring_numbers(len(kernel)), weights=np.abs(kernel).ravel())
    outside = np.cumsum(rings[::-1])
    num_rings = np.searchsorted(outside, _CROP_TOLERANCE * outside[-1])
    return kernel[num_rings : len(kernel) - num_rings, num_rings : len(kernel) - num_rings]


@functools.lru_cache(maxsize=64)
def _ring_numbers(size: int) -> np.ndarray:
    """For each pixel of a square its distance from the centre, along rows or columns."""
    distance = np.abs(np.arange(size) - size // 2)
    return np.maximum(distance[:, None], distance).ravel()


def _filter_fourier(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Correlation as a product of spectra, on planes whose sides have small prime factors only."""
    margin = len(kernel) // 2
    height, width = image.shape[:2]
    size = [cv2.getOptimalDFTSize(length + 2 * margin) for length in (height, width)]
    after = [side - length - margin for side, length in zip(size, (height, width), strict=True)]
    padded = cv2.copyMakeBorder(image, margin, after[0], margin, after[1], cv2.BORDER_REFLECT_101)
    spectrum = torch.fft.rfft2(torch.from_numpy(np.array(kernel[::-1, ::-1], np.float32)), s=size)
    filtered = torch.fft.irfft2(torch.fft.rfft2(torch.from_numpy(to_planes(padded))).mul_(spectrum), s=size)
    return from_planes(filtered[:, 2 * margin : 2 * margin + height, 2 * margin : 2 * margin + width].numpy())
