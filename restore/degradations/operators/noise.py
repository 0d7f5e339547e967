"""Noise: additive, signal-dependent, impulsive, correlated over colours, and the fixed noise of published evaluations.

`sigma` is on the scale [0, 255]. Every operator draws from one generator for each sample; the parameter `grey` adds the
same noise to all channels, and `clip` keeps the result in [0, 1].
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Annotated, Literal

import cv2
import numpy as np
import torch
from pydantic import Field
from scipy import stats

from restore.degradations.operators.base import (
    Operator,
    column,
    from_planes,
    on_images,
    operator,
    to_levels,
    uses_opencv,
)
from restore.degradations.operators.fields import field, field_of_one, random_words

__all__ = [
    "CorrelatedNoise",
    "EvaluationNoise",
    "GaussianNoise",
    "PoissonNoise",
    "SaltPepperNoise",
    "SpeckleNoise",
    "luma",
]

Sigma = Annotated[float, Field(ge=0, le=255)]
Amount = Annotated[float, Field(ge=0, le=1)]
_LUMA = (0.299, 0.587, 0.114)


@operator("gaussian_noise")
class GaussianNoise(Operator):
    """Adds N(0, sigma / 255)."""

    sigma: Sigma
    grey: bool = False
    clip: bool = True
    seed: int = 0

    def group(self) -> tuple[bool, bool]:
        """What one call shares."""
        return self.grey, self.clip

    @classmethod
    def apply(cls, x_BCHW: torch.Tensor, samples: Sequence[GaussianNoise]) -> torch.Tensor:
        """Add the noise."""
        if uses_opencv(x_BCHW):
            return on_images(x_BCHW, samples)
        return _clipped(x_BCHW + _noise(x_BCHW, samples), samples)

    def on_pixels(self, image: np.ndarray) -> np.ndarray:
        """Add the noise to one image."""
        noise = field_of_one(_planar(image, grey=self.grey), self.seed)
        return _plus(image, from_planes(noise.numpy()), self.sigma / 255, clip=self.clip)


@operator("speckle_noise")
class SpeckleNoise(GaussianNoise):
    """Adds x N(0, sigma / 255): noise in proportion to the light."""

    @classmethod
    def apply(cls, x_BCHW: torch.Tensor, samples: Sequence[SpeckleNoise]) -> torch.Tensor:
        """Add the noise."""
        return _clipped(_noise(x_BCHW, samples).mul(x_BCHW).add_(x_BCHW), samples)


@operator("correlated_noise")
class CorrelatedNoise(Operator):
    """Adds Gaussian noise whose three channels go together (BSRGAN, Zhang et al. 2021, arXiv 2103.14006).

    The covariance is sigma^2 |U' D U| with a random rotation U and random D in [0, 1]; `multiplicative` multiplies the
    noise with the image. Grey images get the first channel.
    """

    sigma: Sigma
    multiplicative: bool = False
    clip: bool = True
    seed: int = 0

    def group(self) -> tuple[bool, bool]:
        """What one call shares."""
        return self.multiplicative, self.clip

    @classmethod
    def apply(cls, x_BCHW: torch.Tensor, samples: Sequence[CorrelatedNoise]) -> torch.Tensor:
        """Add the noise."""
        roots = torch.stack([_covariance_root(sample.seed) for sample in samples]).to(x_BCHW)
        noise = torch.einsum("bij,bjhw->bihw", roots, field(x_BCHW, [sample.seed for sample in samples], channels=3))
        noise = noise[:, : x_BCHW.shape[1]] * column(x_BCHW, [sample.sigma / 255 for sample in samples])
        return _clipped(x_BCHW + (noise * x_BCHW if samples[0].multiplicative else noise), samples)


@operator("poisson_noise")
class PoissonNoise(Operator):
    """Shot noise: photons are counted, Poisson(x peak) / peak, with the deviation from x multiplied by `scale`.

    Without `peak` it is 2^ceil(log2 n), n being the number of different 8-bit levels in the image (Real-ESRGAN). The
    image is rounded to 8 bits first, as in the published pipelines.
    """

    peak: Annotated[float, Field(gt=0)] | None = None
    scale: Annotated[float, Field(ge=0)] = 1.0
    grey: bool = False
    clip: bool = True
    seed: int = 0

    def group(self) -> tuple[bool, bool, bool]:
        """What one call shares."""
        return self.grey, self.clip, self.peak is None

    @classmethod
    def apply(cls, x_BCHW: torch.Tensor, samples: Sequence[PoissonNoise]) -> torch.Tensor:
        """Add the noise."""
        if uses_opencv(x_BCHW) and samples[0].peak is None:
            return on_images(x_BCHW, samples)
        source = luma(x_BCHW) if samples[0].grey else x_BCHW
        levels = source.detach().mul(255).round_().clamp_(0, 255)
        sampler = _poisson_from_levels if samples[0].peak is None else _poisson_from_peaks
        noise = sampler(levels, samples).sub_(levels, alpha=1 / 255)
        return _clipped(x_BCHW + noise.mul_(column(x_BCHW, [sample.scale for sample in samples])), samples)

    def on_pixels(self, image: np.ndarray) -> np.ndarray:
        """Add the noise to one image."""
        if self.peak is not None:
            return super().on_pixels(image)
        levels = to_levels(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) if self.grey and image.ndim == 3 else image)
        rows = levels.reshape(len(levels), -1)
        peak = _peak(np.count_nonzero(cv2.calcHist([rows], [0], None, [256], [0, 256])))
        words = from_planes(random_words(_planar(levels), torch.Generator().manual_seed(self.seed)).numpy())
        levels, words = torch.from_numpy(levels), torch.from_numpy(words)
        noise = _counts(levels, words, peak).sub_(levels, alpha=peak / 255)
        return _plus(image, noise.numpy(), self.scale / peak, clip=self.clip)


@operator("salt_pepper_noise")
class SaltPepperNoise(Operator):
    """Replaces a part `amount` of the pixels, by white with probability `salt`, else by black."""

    amount: Amount
    salt: Amount = 0.5
    seed: int = 0

    @classmethod
    def apply(cls, x_BCHW: torch.Tensor, samples: Sequence[SaltPepperNoise]) -> torch.Tensor:
        """Replace pixels, all channels together."""
        chance = field(x_BCHW, [sample.seed for sample in samples], channels=1, kind="uniform")
        amount = column(x_BCHW, [sample.amount for sample in samples])
        white = column(x_BCHW, [sample.amount * sample.salt for sample in samples])
        return torch.where(chance < amount, (chance < white).to(x_BCHW), x_BCHW)


@operator("evaluation_noise")
class EvaluationNoise(Operator):
    """The noise of published denoising results: NumPy's legacy generator, seeded anew for every image, not clipped.

    `order` is the channel order of the array that the noise was added to: SwinIR and BasicSR read images with OpenCV
    (bgr); KAIR's, DnCNN's and IPT's scripts add it to rgb.
    """

    sigma: Sigma
    order: Literal["bgr", "rgb"] = "bgr"
    clip: bool = False
    numpy_seed: Annotated[int, Field(ge=0, lt=2**32)] = 0

    @classmethod
    def apply(cls, x_BCHW: torch.Tensor, samples: Sequence[EvaluationNoise]) -> torch.Tensor:
        """Add the noise, in double precision as the published scripts do."""
        channels, height, width = x_BCHW.shape[1:]
        fields = []
        for sample in samples:
            noise = np.random.RandomState(sample.numpy_seed).normal(0, sample.sigma / 255, (height, width, channels))
            fields.append(noise[..., ::-1] if sample.order == "bgr" else noise)
        noise = torch.from_numpy(np.stack(fields)).permute(0, 3, 1, 2).to(x_BCHW.device)
        return _clipped((x_BCHW.double() + noise).to(x_BCHW.dtype), samples)


def luma(x_BCHW: torch.Tensor) -> torch.Tensor:
    """(B, 1, H, W): BT.601 grey of RGB; a grey image as it is."""
    if x_BCHW.shape[1] == 1:
        return x_BCHW
    red, green, blue = x_BCHW.unbind(1)
    return (_LUMA[0] * red).add_(green, alpha=_LUMA[1]).add_(blue, alpha=_LUMA[2])[:, None]


def _noise(x_BCHW: torch.Tensor, samples: Sequence[GaussianNoise]) -> torch.Tensor:
    noise = field(x_BCHW, [sample.seed for sample in samples], channels=1 if samples[0].grey else None)
    return noise.mul_(column(x_BCHW, [sample.sigma / 255 for sample in samples]))


def _planar(image: np.ndarray, *, grey: bool = False) -> tuple[int, int, int]:
    """(C, H, W) of an image as OpenCV has it, or of a grey one of its size."""
    return (1 if grey or image.ndim == 2 else image.shape[2], *image.shape[:2])


def _plus(image: np.ndarray, noise: np.ndarray, scale: float, *, clip: bool) -> np.ndarray:
    """image + scale x noise, grey noise for all channels alike."""
    if noise.ndim < image.ndim:
        noise = cv2.cvtColor(noise, cv2.COLOR_GRAY2RGB)
    noisy = torch.from_numpy(cv2.scaleAdd(noise, scale, image))
    return (noisy.clamp_(0, 1) if clip else noisy).numpy()


def _clipped(x_BCHW: torch.Tensor, samples: Sequence[Operator]) -> torch.Tensor:
    return x_BCHW.clamp_(0, 1) if samples[0].clip else x_BCHW


@functools.lru_cache(maxsize=64)
def _covariance_root(seed: int) -> torch.Tensor:
    """(3, 3): a root of |U' D U|, the absolute value taken element by element as published."""
    generator = torch.Generator().manual_seed(seed)
    strengths = torch.rand(3, dtype=torch.float64, generator=generator)
    rotation, _ = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64, generator=generator))
    covariance = (rotation.T @ torch.diag(strengths) @ rotation).abs()
    values, vectors = torch.linalg.eigh(covariance)
    return vectors * values.clamp(min=0).sqrt()


def _poisson_from_peaks(levels_BCHW: torch.Tensor, samples: Sequence[PoissonNoise]) -> torch.Tensor:
    counted = []
    for level_CHW, sample in zip(levels_BCHW, samples, strict=True):
        generator = torch.Generator(levels_BCHW.device).manual_seed(sample.seed)
        counted.append(torch.poisson(level_CHW * (sample.peak / 255), generator=generator) / sample.peak)
    return torch.stack(counted)


def _poisson_from_levels(levels_BCHW: torch.Tensor, samples: Sequence[PoissonNoise]) -> torch.Tensor:
    counted = []
    for levels_CHW, sample in zip(levels_BCHW.byte(), samples, strict=True):
        peak = _peak(int(torch.bincount(levels_CHW.flatten(), minlength=256).count_nonzero()))
        generator = torch.Generator(levels_CHW.device).manual_seed(sample.seed)
        counted.append(_counts(levels_CHW, random_words(levels_CHW.shape, generator), peak) / peak)
    return torch.stack(counted)


def _peak(num_levels: int) -> int:
    return 2 ** math.ceil(math.log2(num_levels))


def _counts(levels: torch.Tensor, words: torch.Tensor, peak: int) -> torch.Tensor:
    """Poisson counts at 256 possible rates, float32, by Walker's alias method: one random word and one look-up a pixel.

    The low bits of a word choose a cell, all of them whether the other count is taken.

    Args:
        levels: uint8; the rate is level x peak / 255.
        words: int32, of the same shape; overwritten.
        peak: the rate at level 255.
    """
    table = _alias_table(peak, levels.device)
    cell = words & (table.shape[1] - 1)
    entry = table.view(-1).index_select(0, torch.add(cell, levels.int(), alpha=table.shape[1]).view(-1))
    entry = entry.view(levels.shape)
    goes = words.bitwise_right_shift_(1).sub_(entry).bitwise_right_shift_(31)  # every bit set, or none
    return entry.bitwise_and_(0xFFFF).bitwise_and_(goes).bitwise_xor_(cell).float()


@functools.lru_cache(maxsize=32)
def _alias_table(peak: int, device: torch.device) -> torch.Tensor:
    """(256, K) int32, for each level and cell.

    The high half is the part of the cell that another count takes, from -2^14 (nothing) to 2^14; the low half says
    which, as the bits in which it differs from the cell's own.
    """
    rates = np.arange(256) * (peak / 255)
    width = 1 << math.ceil(math.log2(peak + 9 * math.sqrt(peak) + 9))
    mass = stats.poisson.pmf(np.arange(width), rates[:, None])
    mass *= width / mass.sum(axis=1, keepdims=True)
    return torch.from_numpy(_alias_rows(mass)).to(device)


def _alias_rows(mass: np.ndarray) -> np.ndarray:
    """Every cell that holds less than one is topped up from one that holds more; all rows take a step at a time."""
    num_rows, num_cells = mass.shape
    cells = np.arange(num_cells)
    others, kept = np.tile(cells, (num_rows, 1)), np.ones_like(mass)
    order = np.argsort(mass >= 1, axis=1, kind="stable")  # small cells, then large ones
    num_small = (mass < 1).sum(axis=1)
    small, large = np.zeros(num_rows, int), num_small.copy()
    left = mass[np.arange(num_rows), order[np.arange(num_rows), large]]  # of the present large cell
    for _ in range(num_cells):
        filling = (left >= 1) & (small < num_small)
        rows = np.flatnonzero(filling)
        cell = order[rows, small[rows]]
        others[rows, cell], kept[rows, cell] = order[rows, large[rows]], mass[rows, cell]
        left[rows] -= 1 - mass[rows, cell]
        small[rows] += 1
        rows = np.flatnonzero(~filling & (large + 1 < num_cells))
        cell, following = order[rows, large[rows]], order[rows, large[rows] + 1]
        others[rows, cell], kept[rows, cell] = following, left[rows]
        left[rows] += mass[rows, following] - 1
        large[rows] += 1
    taken = np.round((0.5 - kept) * 2**15).clip(-(2**14), 2**14)
    return (taken.astype(np.int32) << 16) | (others ^ cells).astype(np.int32)
