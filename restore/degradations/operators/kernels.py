"""Blur kernels: (size, size) float64 arrays that sum to one, in pixels, with the centre at (size - 1) / 2.

The four bell shapes are functions of one quadratic form q = v' S^-1 v, with S the covariance of an ellipse whose axes
are `sigma_x` and `sigma_y` pixels long, turned by `angle` radians:

    Gaussian exp(-q / 2)      generalized Gaussian exp(-q^beta / 2)      plateau 1 / (1 + q^beta)

Sources: Real-ESRGAN (Wang et al. 2021, arXiv 2107.10833) and BasicSR's degradations (Apache-2.0), whose values these
functions give; Boracchi and Foi 2012 ("Modeling the performance of image restoration from motion blur") for the
random trajectory.
"""

from __future__ import annotations

import functools
import math

import numpy as np
from scipy import special

__all__ = ["disk", "gaussian", "generalized_gaussian", "motion", "plateau", "ringing_spectrum", "sinc"]


def gaussian(size: int, sigma_x: float, sigma_y: float, angle: float = 0.0, shift_px: float = 0.0) -> np.ndarray:
    """Gaussian kernel; `shift_px` moves its centre to the right and down (for off-grid down-sampling)."""
    return _normalised(np.exp(-0.5 * _ellipse(size, sigma_x, sigma_y, angle, shift_px)))


def generalized_gaussian(size: int, sigma_x: float, sigma_y: float, angle: float, beta: float) -> np.ndarray:
    """Generalized Gaussian kernel: heavier tails for beta < 1, flatter top for beta > 1."""
    return _normalised(np.exp(-0.5 * _ellipse(size, sigma_x, sigma_y, angle) ** beta))


def plateau(size: int, sigma_x: float, sigma_y: float, angle: float, beta: float) -> np.ndarray:
    """Plateau-shaped kernel."""
    return _normalised(1.0 / (1.0 + _ellipse(size, sigma_x, sigma_y, angle) ** beta))


def sinc(size: int, cutoff: float) -> np.ndarray:
    """Ideal circular low-pass filter with the given cutoff in radians per pixel (pi lets everything through)."""
    radius = _radius(size)
    with np.errstate(invalid="ignore"):
        kernel = special.j1(cutoff * radius) / radius
    kernel[size // 2, size // 2] = cutoff / 2  # the limit
    return _normalised(kernel)


def disk(radius_px: float, *, oversampling: int = 8) -> np.ndarray:
    """Defocus kernel: a uniform disk; a pixel on its edge counts by the part of it that is covered."""
    size = 2 * int(np.ceil(radius_px)) + 1
    y, x = _grid(size * oversampling, odd=False)
    covered = (np.hypot(x, y) <= radius_px * oversampling).astype(float)
    return _normalised(covered.reshape(size, oversampling, size, oversampling).sum(axis=(1, 3)))


def motion(size: int, uniforms: np.ndarray, normals: np.ndarray, *, anxiety: float) -> np.ndarray:
    """Camera shake: the path of a point that drifts, is pulled back to its start and now and then jerks.

    Args:
        size: side of the kernel, odd; the path is scaled to fit.
        uniforms: (N,) draws from [0, 1) that decide when a jerk comes; N is the number of steps of the path.
        normals: (N + 1, 2) standard normal draws: the first velocity, then the push at every step.
        anxiety: 0 for a smooth arc up to about 1 for a nervous hand.
    """
    _check_odd(size)
    path = _trajectory(uniforms, normals @ np.array([1.0, 1.0j]), anxiety)
    middle = (path.real.max() + path.real.min()) / 2 + 1j * (path.imag.max() + path.imag.min()) / 2
    extent = max(np.ptp(path.real), np.ptp(path.imag), 1e-9)
    path = (path - middle) * (size - 1 - 1e-6) / extent + (size - 1) / 2 * (1 + 1j)
    return _normalised(_splat(path, size))


def ringing_spectrum(height: int, width: int, cutoff: float) -> np.ndarray:
    """The half spectrum (height, width // 2 + 1) of an ideal low-pass at `cutoff` times the Nyquist frequency."""
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :])
    return (frequency <= 0.5 * cutoff).astype(np.float32)


def _trajectory(uniforms: np.ndarray, pushes: np.ndarray, anxiety: float) -> np.ndarray:
    num_steps = len(uniforms)
    velocity = pushes[0] / max(abs(pushes[0]), 1e-9) / num_steps
    position, path = 0j, np.empty(num_steps, complex)
    for step in range(num_steps):
        path[step] = position
        jerk = 0j
        if uniforms[step] < 0.2 * anxiety / np.sqrt(num_steps):
            jerk = 2 * velocity * np.exp(1j * (np.pi + uniforms[step] * 1e3))
        velocity += jerk + anxiety * (0.1 * pushes[step + 1] / num_steps - 0.7 * position / num_steps**1.5)
        velocity *= 1 / num_steps / max(abs(velocity), 1e-12)
        position += velocity
    return path


def _splat(path: np.ndarray, size: int) -> np.ndarray:
    """Adds each point of a path to the four pixels around it, by bilinear weights."""
    left, top = np.floor(path.real).astype(int), np.floor(path.imag).astype(int)
    right, down = path.real - left, path.imag - top
    kernel = np.zeros((size + 1, size + 1))
    for dy, dx in ((0, 0), (0, 1), (1, 0), (1, 1)):
        weight = (down if dy else 1 - down) * (right if dx else 1 - right)
        np.add.at(kernel, (top + dy, left + dx), weight)
    return kernel[:size, :size]


def _ellipse(size: int, sigma_x: float, sigma_y: float, angle: float, shift_px: float = 0.0) -> np.ndarray:
    """The quadratic form q on the grid."""
    squares = _squares(size, shift_px)
    cos, sin = math.cos(angle), math.sin(angle)
    along, across = sigma_x**-2, sigma_y**-2
    form = (along * cos**2 + across * sin**2, along * sin**2 + across * cos**2, 2 * (along - across) * cos * sin)
    return (form @ squares).reshape(size, size)


@functools.lru_cache(maxsize=64)
def _squares(size: int, shift_px: float) -> np.ndarray:
    """(3, size^2): x^2, y^2 and x y on the grid."""
    y, x = (axis.ravel() - shift_px for axis in _grid(size))
    return _constant(np.stack([x * x, y * y, x * y]))


@functools.lru_cache(maxsize=64)
def _radius(size: int) -> np.ndarray:
    """(size, size): the distance from the centre."""
    y, x = _grid(size)
    return _constant(np.hypot(x, y))


def _constant(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array


def _grid(size: int, odd: bool = True) -> tuple[np.ndarray, np.ndarray]:
    if odd:
        _check_odd(size)
    axis = np.arange(size) - (size - 1) / 2
    y, x = np.meshgrid(axis, axis, indexing="ij")
    return y, x


def _check_odd(size: int) -> None:
    if size < 1 or size % 2 == 0:
        raise ValueError(f"a kernel needs an odd size, so that it has a centre; given: {size}.")


def _normalised(kernel: np.ndarray) -> np.ndarray:
    return kernel / kernel.sum()
