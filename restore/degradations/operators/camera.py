"""The camera: from sRGB back to a raw image, sensor noise there, and forward again; Bayer mosaics.

Brooks et al. 2019, "Unprocessing Images for Learned Raw Denoising" (arXiv 1811.11127): tone curve, gamma, colour matrix
and white balance are undone with random settings, shot and read noise of a real sensor's ratio is added, and the same
settings are applied again. So without noise the image comes back as it was, but for clipped highlights.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field

from restore.degradations.operators.base import Operator, column, operator
from restore.degradations.operators.blur import reflect_pad
from restore.degradations.operators.fields import field
from restore.errors import ImageError

__all__ = ["BayerMosaic", "CameraNoise", "demosaic", "mosaic"]

Positive = Annotated[float, Field(gt=0)]
Pattern = Literal["rggb", "bggr", "grbg", "gbrg"]

# XYZ to camera RGB for four sensors (as published with the Darmstadt Noise Dataset), and sRGB to XYZ (D65)
_XYZ_TO_CAMERA = torch.tensor(
    [
        [[1.0234, -0.2969, -0.2266], [-0.5625, 1.6328, -0.0469], [-0.0703, 0.2188, 0.6406]],
        [[0.4913, -0.0541, -0.0202], [-0.6130, 1.3513, 0.2906], [-0.1564, 0.2151, 0.7183]],
        [[0.8380, -0.2630, -0.0639], [-0.2887, 1.0725, 0.2496], [-0.0627, 0.1427, 0.5438]],
        [[0.6596, -0.2079, -0.0562], [-0.4782, 1.3016, 0.1933], [-0.0970, 0.1581, 0.5181]],
    ],
    dtype=torch.float64,
)
_SRGB_TO_XYZ = torch.tensor(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]],
    dtype=torch.float64,
)


@operator("camera_noise")
class CameraNoise(Operator):
    """Shot and read noise on the raw image, seen through the camera's processing.

    The variance of a raw value x is `shot` x + read, where log read = 2.18 log shot + 1.20 + `read_offset`: the line
    that Brooks et al. fitted to the Darmstadt cameras. With `bayer` the noise is added to a mosaic, which is then
    interpolated, so that it is correlated as in photographs.
    """

    shot: Positive
    read_offset: float = 0.0
    gain: Positive = 0.8
    red_gain: Positive = 2.1
    blue_gain: Positive = 1.7
    bayer: bool = True
    seed: int = 0

    def group(self) -> bool:
        """What one call shares."""
        return self.bayer

    @property
    def read(self) -> float:
        """Variance of the read noise."""
        return math.exp(2.18 * math.log(self.shot) + 1.20 + self.read_offset)

    def camera_matrix(self) -> torch.Tensor:
        """(3, 3) sRGB to camera: a random mixture of four sensors; rows sum to one, so white stays white."""
        weights = torch.rand(4, dtype=torch.float64, generator=torch.Generator().manual_seed(self.seed)) + 1e-8
        matrix = torch.einsum("s,sij->ij", weights / weights.sum(), _XYZ_TO_CAMERA) @ _SRGB_TO_XYZ
        return matrix / matrix.sum(dim=1, keepdim=True)

    @classmethod
    def apply(cls, x_BCHW: torch.Tensor, samples: Sequence[CameraNoise]) -> torch.Tensor:
        """Unprocess, add noise, process; the result is in [0, 1]."""
        _check_rgb(x_BCHW, "camera_noise")
        matrix = torch.stack([sample.camera_matrix() for sample in samples])
        gains = torch.tensor([[1 / s.gain * s.red_gain, 1 / s.gain, 1 / s.gain * s.blue_gain] for s in samples])
        gains = gains.to(x_BCHW).view(-1, 3, 1, 1)
        raw = _unprocess(x_BCHW.clamp(0, 1), matrix.to(x_BCHW), gains)
        if samples[0].bayer:
            raw = mosaic(raw, "rggb")
        shot = column(x_BCHW, [sample.shot for sample in samples])
        read = column(x_BCHW, [sample.read for sample in samples])
        noise = field(raw, [sample.seed + 1 for sample in samples])
        noisy = raw + noise * (raw * shot + read).sqrt()
        if samples[0].bayer:
            noisy = demosaic(noisy, "rggb")
        return _process(noisy, torch.linalg.inv(matrix).to(x_BCHW), gains)


@operator("bayer_mosaic")
class BayerMosaic(Operator):
    """One colour for each pixel, as a sensor sees; `interpolate` fills in the others bilinearly, else they are zero."""

    pattern: Pattern = "rggb"
    interpolate: bool = True

    def group(self) -> tuple[str, bool]:
        """What one call shares."""
        return self.pattern, self.interpolate

    @classmethod
    def apply(cls, x_BCHW: torch.Tensor, samples: Sequence[BayerMosaic]) -> torch.Tensor:
        """Take the mosaic; the size stays."""
        _check_rgb(x_BCHW, "bayer_mosaic")
        pattern = samples[0].pattern
        one_channel = mosaic(x_BCHW, pattern)
        if samples[0].interpolate:
            return demosaic(one_channel, pattern)
        return one_channel * _pattern_mask(*x_BCHW.shape[-2:], pattern).to(x_BCHW)


def mosaic(rgb_BCHW: torch.Tensor, pattern: str) -> torch.Tensor:
    """(B, 1, H, W): at each pixel the one channel that the pattern of colour filters lets through."""
    return (rgb_BCHW * _pattern_mask(*rgb_BCHW.shape[-2:], pattern).to(rgb_BCHW)).sum(dim=1, keepdim=True)


def demosaic(mosaic_B1HW: torch.Tensor, pattern: str) -> torch.Tensor:
    """(B, 3, H, W): each channel interpolated bilinearly from its own pixels, which keep their values."""
    mask = _pattern_mask(*mosaic_B1HW.shape[-2:], pattern).to(mosaic_B1HW)[None]
    triangle = torch.tensor([1.0, 2.0, 1.0]).to(mosaic_B1HW)
    kernel = (triangle[:, None] * triangle).expand(3, 1, 3, 3)

    def spread(x_B3HW: torch.Tensor) -> torch.Tensor:
        return F.conv2d(reflect_pad(x_B3HW, 1), kernel, groups=3)

    return torch.where(mask > 0, mosaic_B1HW, spread(mosaic_B1HW * mask) / spread(mask).clamp(min=1e-6))


@functools.lru_cache(maxsize=16)
def _pattern_mask(height: int, width: int, pattern: str) -> torch.Tensor:
    """(3, H, W): 1 where a channel is measured."""
    mask = torch.zeros(3, height, width)
    for index, colour in enumerate(pattern):
        mask["rgb".index(colour), index // 2 :: 2, index % 2 :: 2] = 1
    return mask


def _unprocess(x_BCHW: torch.Tensor, matrix_B33: torch.Tensor, gains_B311: torch.Tensor) -> torch.Tensor:
    smooth = 0.5 - torch.sin(torch.asin(1 - 2 * x_BCHW) / 3)
    linear = smooth.clamp(min=1e-8) ** 2.2
    camera = torch.einsum("bij,bjhw->bihw", matrix_B33, linear)
    # dividing bright pixels by the gains would make highlights grey: they fade to being left alone
    bright = ((camera.mean(dim=1, keepdim=True).clamp(min=0) - 0.9).clamp(min=0) / 0.1) ** 2
    inverse = 1 / gains_B311
    return (camera * torch.maximum(bright + (1 - bright) * inverse, inverse)).clamp(0, 1)


def _process(raw_BCHW: torch.Tensor, inverse_B33: torch.Tensor, gains_B311: torch.Tensor) -> torch.Tensor:
    balanced = (raw_BCHW * gains_B311).clamp(0, 1)
    linear = torch.einsum("bij,bjhw->bihw", inverse_B33, balanced).clamp(0, 1)
    encoded = linear.clamp(min=1e-8) ** (1 / 2.2)
    return (3 * encoded**2 - 2 * encoded**3).clamp(0, 1)


def _check_rgb(x_BCHW: torch.Tensor, name: str) -> None:
    if x_BCHW.shape[1] != 3:
        raise ImageError(f"{name} needs RGB images; these have {x_BCHW.shape[1]} channel(s).")
