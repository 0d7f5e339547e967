"""GMSD, FSIM and VIF: similarity of gradients, of phase congruency, and of the information in wavelet bands.

GMSD: Xue et al. 2014. FSIM and FSIMc: Zhang et al. 2011, with the phase congruency of Kovesi. VIF: Sheikh & Bovik
2006, the wavelet-domain version with 3x3 vectors (not the pixel-domain one, which gives other values). The code is our
own, in float64; the filters of VIF are published numbers (parameters/NOTICE.md).

Legend: B batch, O orientations, S scales, L places of a 3x3 neighbourhood.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import torch
import torch.nn.functional as F

from restore.images import rgb_to_grey
from restore.metrics.backbones import stored
from restore.metrics.inputs import Bits, Border, Images, Preparation, White, as_pair, as_score, require_size
from restore.metrics.registration import metric

__all__ = ["fsim", "gmsd", "gradient_similarity", "vif"]


@metric("gmsd", higher_is_better=False)
def gmsd(
    restored: Images,
    reference: Images,
    *,
    border_px: Border = 0,
    bits: Bits | None = None,
    data_range: White = 1.0,
) -> float | torch.Tensor:
    """Deviation of the similarity of gradient magnitudes at half size; 0 for identical images. Colour by its grey.

    Raises:
        ImageError: the images differ in size or channels, or a side is under 6 px.
    """
    pair = as_pair(restored, reference, Preparation(border_px, bits=bits, data_range=data_range))
    require_size(pair[0], 6, "GMSD")
    return as_score(gradient_similarity(*pair).flatten(1).std(dim=1), restored)


def gradient_similarity(x_BCHW: torch.Tensor, y_BCHW: torch.Tensor) -> torch.Tensor:
    """The similarity of gradient magnitudes of which GMSD is the deviation, (B, 1, H/2, W/2), 1 where they agree."""
    x_grad, y_grad = (_gradient(F.avg_pool2d(_grey_levels(each), 2, ceil_mode=True), 1.0) for each in (x_BCHW, y_BCHW))
    return _similarity(x_grad, y_grad, 170.0)


@metric("fsim", higher_is_better=True)
def fsim(
    restored: Images,
    reference: Images,
    *,
    border_px: Border = 0,
    bits: Bits | None = None,
    data_range: White = 1.0,
) -> float | torch.Tensor:
    """Feature similarity, 1 for identical images: FSIMc for colour, FSIM for grey images.

    Raises:
        ImageError: the images differ in size or channels, or a side is under 16 px.
    """
    pair = as_pair(restored, reference, Preparation(border_px, bits=bits, data_range=data_range))
    require_size(pair[0], 16, "FSIM")
    factor = max(1, math.floor(min(pair[0].shape[-2:]) / 256 + 0.5))
    x_BCHW, y_BCHW = (F.avg_pool2d(_yiq(x_BCHW * 255), factor) for x_BCHW in pair)
    x_phase, y_phase = _phase_congruency(x_BCHW[:, :1]), _phase_congruency(y_BCHW[:, :1])
    similarity = _similarity(x_phase, y_phase, 0.85)
    similarity = similarity * _similarity(_gradient(x_BCHW[:, :1], 10 / 3), _gradient(y_BCHW[:, :1], 10 / 3), 160.0)
    if x_BCHW.shape[1] == 3:
        chroma = _similarity(x_BCHW[:, 1:], y_BCHW[:, 1:], 200.0).prod(dim=1, keepdim=True)
        similarity = similarity * _real_power(chroma, 0.03)
    weight = torch.maximum(x_phase, y_phase)
    kept, total = (similarity * weight).sum(dim=(1, 2, 3)), weight.sum(dim=(1, 2, 3))
    return as_score((kept + 1e-12) / (total + 1e-12), restored)


@metric("vif", higher_is_better=True)
def vif(
    restored: Images,
    reference: Images,
    *,
    border_px: Border = 0,
    bits: Bits | None = None,
    data_range: White = 1.0,
) -> float | torch.Tensor:
    """Visual information fidelity: 1 for identical images, above 1 where contrast was raised. Colour by its grey.

    Raises:
        ImageError: the images differ in size or channels, or a side is under 72 px.
    """
    pair = as_pair(restored, reference, Preparation(border_px, bits=bits, data_range=data_range))
    require_size(pair[0], 72, "VIF")
    x_bands, y_bands = (_pyramid(_grey_levels(x_BCHW)) for x_BCHW in pair)
    kept: Any = 0.0
    total: Any = 0.0
    for level, (x_band, y_band) in enumerate(zip(x_bands, y_bands, strict=True)):
        band_kept, band_total = _information(x_band, y_band, window_px=2 ** (4 - level) + 1)
        kept, total = kept + band_kept, total + band_total
    return as_score((kept + 1e-12) / (total + 1e-12), restored)


def _grey_levels(x_BCHW: torch.Tensor) -> torch.Tensor:
    grey_BCHW = rgb_to_grey(x_BCHW) if x_BCHW.shape[1] == 3 else x_BCHW
    return (grey_BCHW * 255).round()


def _yiq(x_BCHW: torch.Tensor) -> torch.Tensor:
    if x_BCHW.shape[1] == 1:
        return x_BCHW
    matrix = x_BCHW.new_tensor([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
    return torch.einsum("oc,bchw->bohw", matrix, x_BCHW)


def _similarity(x: torch.Tensor, y: torch.Tensor, constant: float) -> torch.Tensor:
    return (2 * x * y + constant) / (x.square() + y.square() + constant)


def _real_power(x: torch.Tensor, exponent: float) -> torch.Tensor:
    """The real part of a power, which exists for negative numbers too."""
    return x.abs() ** exponent * torch.where(x < 0, math.cos(math.pi * exponent), 1.0)


def _gradient(x_B1HW: torch.Tensor, centre: float) -> torch.Tensor:
    """Gradient magnitude by (1, centre, 1) / (2 + centre) across a central difference: Prewitt at 1, Scharr at 10/3."""
    across = x_B1HW.new_tensor([1.0, centre, 1.0]) / (2 + centre)
    kernel = torch.outer(across, x_B1HW.new_tensor([1.0, 0.0, -1.0]))
    steps = F.conv2d(x_B1HW, torch.stack([kernel, kernel.T])[:, None], padding=1)
    return steps.square().sum(dim=1, keepdim=True).sqrt()


def _phase_congruency(x_B1HW: torch.Tensor) -> torch.Tensor:
    """Kovesi's measure over 4 scales and 4 orientations, (B, 1, H, W)."""
    height, width = x_B1HW.shape[-2:]
    filters_OSHW = _log_gabor(height, width).to(x_B1HW)
    response_BOSHW = torch.fft.ifft2(torch.fft.fft2(x_B1HW)[:, :, None] * filters_OSHW)
    sum_BO1HW = response_BOSHW.sum(dim=2, keepdim=True)
    direction = sum_BO1HW / (sum_BO1HW.abs() + 1e-4)
    aligned = response_BOSHW * direction.conj()
    energy_BOHW = (aligned.real - aligned.imag.abs()).sum(dim=2)

    # The noise is judged by the finest scale: the median of its squared response, exponentially distributed.
    finest_BON = response_BOSHW[:, :, 0].abs().square().flatten(2)
    power_BO = finest_BON.median(dim=2).values / math.log(2) / filters_OSHW[:, 0].square().sum(dim=(1, 2))
    spatial_OHW = torch.fft.ifft2(filters_OSHW).real.sum(dim=1)
    tau_BO = (power_BO * spatial_OHW.square().sum(dim=(1, 2)) * height * width).sqrt()
    threshold_BO = tau_BO * (math.sqrt(math.pi / 2) + 2 * math.sqrt(2 - math.pi / 2)) / 1.7

    energy_B1HW = (energy_BOHW - threshold_BO[..., None, None]).clamp(min=0).sum(dim=1, keepdim=True)
    return energy_B1HW / (response_BOSHW.abs().sum(dim=(1, 2))[:, None] + 1e-4)


@functools.lru_cache(maxsize=4)
def _log_gabor(height: int, width: int) -> torch.Tensor:
    """Filters in the frequency domain, (4 orientations, 4 scales, H, W); zero frequency at the corner."""
    y, x = torch.meshgrid(_frequencies(height), _frequencies(width), indexing="ij")
    radius, theta = torch.hypot(x, y), torch.atan2(-y, x)
    low_pass = 1 / (1 + (radius / 0.45) ** 30)
    radius[0, 0] = 1.0
    waves = [6 * 2**scale for scale in range(4)]
    radial = torch.stack([torch.exp(-((radius * wave).log() ** 2) / (2 * math.log(0.55) ** 2)) for wave in waves])
    radial = radial * low_pass
    radial[:, 0, 0] = 0.0
    angles = torch.arange(4, dtype=torch.float64).view(4, 1, 1) * math.pi / 4
    apart = torch.atan2(torch.sin(theta - angles), torch.cos(theta - angles)).abs()
    angular = torch.exp(-(apart**2) / (2 * (math.pi / 4 / 1.2) ** 2))
    return angular[:, None] * radial


def _frequencies(length: int) -> torch.Tensor:
    """As in the published code, where those of an odd length are divided by one less."""
    steps = torch.arange(length, dtype=torch.float64) - length // 2
    return torch.fft.ifftshift(steps / (length - length % 2))


def _pyramid(levels_B1HW: torch.Tensor) -> list[torch.Tensor]:
    """The vertical and horizontal bands at four scales, finest first, (B, 2, H, W) each."""
    filters = {key: torch.from_numpy(value).to(levels_B1HW) for key, value in stored("vif").items()}
    low = _correlate(levels_B1HW, filters["low0"][None])
    bands = []
    for _ in range(4):
        bands.append(_correlate(low, filters["bands"]))
        low = _correlate(low, filters["low"][None], stride=2)
    return bands


def _correlate(x_B1HW: torch.Tensor, kernels: torch.Tensor, stride: int = 1) -> torch.Tensor:
    margin = kernels.shape[-1] // 2
    return F.conv2d(F.pad(x_B1HW, [margin] * 4, mode="reflect"), kernels[:, None], stride=stride)


def _information(
    x_BCHW: torch.Tensor, y_BCHW: torch.Tensor, window_px: int, noise: float = 0.4
) -> tuple[torch.Tensor, torch.Tensor]:
    """The bits that the restored and the reference bands carry about the scene, (B,) each.

    Each 3x3 vector of the reference is a Gaussian scale mixture; the restored one is it times a gain, plus noise.
    """
    count, height, width = len(x_BCHW), *(side // 3 * 3 for side in x_BCHW.shape[-2:])
    x_NHW, y_NHW = (band[..., :height, :width].reshape(-1, 1, height, width) for band in (x_BCHW, y_BCHW))
    gain, rest = _channel(x_NHW, y_NHW, window_px)
    vectors_N9L = F.unfold(y_NHW, 3)
    centred_N9L = vectors_N9L - vectors_N9L.mean(dim=2, keepdim=True)
    covariance_N99 = centred_N9L @ centred_N9L.mT / centred_N9L.shape[2]
    apart_N9L = F.unfold(y_NHW, 3, stride=3)
    scale_NL = (torch.linalg.pinv(covariance_N99, hermitian=True) @ apart_N9L * apart_N9L).sum(dim=1) / 9
    margin = math.ceil((window_px // 2) / 3)
    scale, gain, rest = (
        part.reshape(-1, 1, height // 3, width // 3)[..., margin:-margin, margin:-margin].flatten(1)
        for part in (scale_NL, gain, rest)
    )
    power_N9L = torch.linalg.eigvalsh(covariance_N99).clamp(min=0)[:, :, None] * scale[:, None]
    kept = torch.log2(1 + gain.square()[:, None] * power_N9L / (rest + noise)[:, None])
    total = torch.log2(1 + power_N9L / noise)
    return kept.reshape(count, -1).sum(dim=1), total.reshape(count, -1).sum(dim=1)


def _channel(x_NHW: torch.Tensor, y_NHW: torch.Tensor, window_px: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The gain and the variance of the noise that turn the reference into the restored band, at every third pixel."""
    tolerance = 1e-12
    moments = torch.cat([x_NHW, y_NHW, x_NHW * y_NHW, x_NHW.square(), y_NHW.square()], dim=1)
    padded = F.pad(moments, [window_px // 2] * 4, mode="reflect")[..., 1:, 1:]
    x_mean, y_mean, product, x_square, y_square = F.avg_pool2d(padded, window_px, stride=3).chunk(5, dim=1)
    x_variance, y_variance = (x_square - x_mean**2).clamp(min=0), (y_square - y_mean**2).clamp(min=0)
    covariance = product - x_mean * y_mean
    gain = covariance / (y_variance + tolerance)
    rest = x_variance - gain * covariance
    silent, flat = y_variance < tolerance, x_variance < tolerance
    lost = silent | (gain < 0)
    gain = torch.where(lost | flat, 0.0, gain)
    rest = torch.where(flat, 0.0, torch.where(lost, x_variance, rest))
    return gain, rest.clamp(min=tolerance)
