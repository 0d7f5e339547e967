"""PSNR, PSNR-B, SSIM and MS-SSIM as batched tensor code in float64.

Sources: Wang et al. 2004 (SSIM: 11x11 Gaussian, sigma 1.5, valid region, mean over pixels and channels; the values of
BasicSR and of MATLAB's `ssim_index`), Wang et al. 2003 (MS-SSIM), Yim & Bovik 2011 (PSNR-B). Which channel, border and
rounding a published figure uses is said by `restore.metrics.PROTOCOLS`.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from restore.images.compiled import sum_of_similarity
from restore.metrics.filters import filter_valid, gaussian_taps
from restore.metrics.inputs import (
    Bits,
    Border,
    Images,
    Luma,
    Preparation,
    White,
    as_levels,
    as_pair,
    as_score,
    require_sides,
    require_size,
)
from restore.metrics.registration import metric

__all__ = ["ms_ssim", "psnr", "psnr_b", "ssim", "ssim_map", "ssim_terms"]

SSIM_WINDOW_PX = 11
MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


@metric("psnr", higher_is_better=True)
def psnr(
    restored: Images,
    reference: Images,
    *,
    border_px: Border = 0,
    luma: Luma = False,
    y_rounding: Literal["none", "matlab"] = "none",
    bits: Bits | None = None,
    data_range: White = 1.0,
) -> float | torch.Tensor:
    """Peak signal-to-noise ratio in dB over all pixels and channels; infinite for identical images.

    The arguments are those of `restore.metrics.inputs.Preparation`.

    Raises:
        ImageError: the images differ in size or channels, or the border leaves nothing.
    """
    prepare = Preparation(border_px, luma, y_rounding, bits, data_range)
    if levels := as_levels(restored, reference, prepare):
        return _psnr_of_levels(*levels)
    x_BCHW, y_BCHW = as_pair(restored, reference, prepare)
    return as_score(-10 * mean_squared_error(x_BCHW, y_BCHW).log10(), restored)


@metric("ssim", higher_is_better=True)
def ssim(
    restored: Images,
    reference: Images,
    *,
    border_px: Border = 0,
    luma: Luma = False,
    y_rounding: Literal["none", "matlab"] = "none",
    bits: Bits | None = None,
    data_range: White = 1.0,
) -> float | torch.Tensor:
    """Structural similarity, the mean over all windows and channels; 1 for identical images.

    The arguments are those of `restore.metrics.inputs.Preparation`.

    Raises:
        ImageError: as `psnr`, or the images are smaller than the 11x11 window.
    """
    prepare = Preparation(border_px, luma, y_rounding, bits, data_range)
    if (levels := as_levels(restored, reference, prepare)) and (value := _mean_ssim(*levels)) is not None:
        return value
    x_BCHW, y_BCHW = as_pair(restored, reference, prepare)
    require_size(x_BCHW, SSIM_WINDOW_PX, "SSIM")
    values = [_mean_ssim_of_planes(*pair) for pair in zip(x_BCHW, y_BCHW, strict=True)]
    return as_score(torch.stack(values), restored)


@metric("ms_ssim", higher_is_better=True)
def ms_ssim(
    restored: Images,
    reference: Images,
    *,
    border_px: Border = 0,
    luma: Luma = True,
    y_rounding: Literal["none", "matlab"] = "none",
    bits: Bits | None = None,
    data_range: White = 1.0,
) -> float | torch.Tensor:
    """Multi-scale structural similarity over five scales, each half the size of the one before (2x2 mean).

    A negative contrast term, of which no real power exists, counts as 0. The arguments are those of
    `restore.metrics.inputs.Preparation`.

    Raises:
        ImageError: as `psnr`, or a side is under 176 px (11 px at the fifth scale).
    """
    x_BCHW, y_BCHW = as_pair(restored, reference, Preparation(border_px, luma, y_rounding, bits, data_range))
    require_size(x_BCHW, SSIM_WINDOW_PX * 2 ** (len(MS_SSIM_WEIGHTS) - 1), "MS-SSIM")
    score_BC = torch.ones_like(x_BCHW[..., 0, 0])
    for scale, weight in enumerate(MS_SSIM_WEIGHTS):
        if scale:
            x_BCHW, y_BCHW = F.avg_pool2d(x_BCHW, 2), F.avg_pool2d(y_BCHW, 2)
        luminance, contrast = ssim_terms(x_BCHW, y_BCHW)
        last = scale == len(MS_SSIM_WEIGHTS) - 1
        term_BC = (luminance * contrast if last else contrast).mean(dim=(2, 3))
        score_BC = score_BC * term_BC.clamp(min=0) ** weight
    return as_score(score_BC.mean(dim=1), restored)


@metric("psnr_b", "psnrb", higher_is_better=True)
def psnr_b(
    restored: Images,
    reference: Images,
    *,
    border_px: Border = 0,
    luma: Luma = False,
    y_rounding: Literal["none", "matlab"] = "none",
    bits: Bits | None = None,
    data_range: White = 1.0,
    block_px: int = 8,
) -> float | torch.Tensor:
    """PSNR that counts blocking: the squared error is raised by the blocking effect of the restored image.

    The blocking effect is the mean squared step across the borders of `block_px` blocks less that elsewhere, weighted
    by log2(block) / log2(shorter side) if positive (Yim & Bovik 2011, eq. 7-13). Colour: the mean over channels.

    Raises:
        ImageError: as `psnr`, or the images are not larger than a block.
    """
    x_BCHW, y_BCHW = as_pair(restored, reference, Preparation(border_px, luma, y_rounding, bits, data_range))
    require_size(x_BCHW, block_px + 1, "PSNR-B")
    error_BC = (x_BCHW - y_BCHW).square().mean(dim=(2, 3)) + _blocking_effect(x_BCHW, block_px)
    return as_score(-10 * error_BC.log10().mean(dim=1), restored)


def _psnr_of_levels(x_HWC: np.ndarray, y_HWC: np.ndarray) -> float:
    """PSNR of uint8 images; the squared differences are whole numbers, and summed as such."""
    total = round(cv2.norm(x_HWC.reshape(len(x_HWC), -1), y_HWC.reshape(len(y_HWC), -1), cv2.NORM_L2SQR))
    return -10 * math.log10(total / (255**2 * x_HWC.size)) if total else math.inf


def _mean_ssim_of_planes(x_CHW: torch.Tensor, y_CHW: torch.Tensor) -> torch.Tensor:
    """The mean of SSIM over one image: by the compiled library, or by maps where a gradient or a device is wanted."""
    alike = {(each.dtype, each.device.type, each.requires_grad) for each in (x_CHW, y_CHW)}
    if alike == {(torch.float64, "cpu", False)}:
        x_HWC, y_HWC = (each.detach().permute(1, 2, 0).numpy() for each in (x_CHW, y_CHW))
        if (value := _mean_ssim(x_HWC, y_HWC)) is not None:
            return x_CHW.new_tensor(value)
    return ssim_map(x_CHW[None], y_CHW[None]).mean()


def _mean_ssim(x_HWC: np.ndarray, y_HWC: np.ndarray) -> float | None:
    """The mean of SSIM of arrays, uint8 or float64 in [0, 1]; None without the compiled library."""
    height, width, channels = x_HWC.shape
    require_sides(height, width, SSIM_WINDOW_PX, "SSIM")
    total = sum_of_similarity(x_HWC, y_HWC, np.array(gaussian_taps(SSIM_WINDOW_PX, 1.5)))
    last = SSIM_WINDOW_PX - 1
    return None if total is None else total / (channels * (height - last) * (width - last))


def mean_squared_error(x_BCHW: torch.Tensor, y_BCHW: torch.Tensor) -> torch.Tensor:
    """The mean squared error of each image, (B,)."""
    return (x_BCHW - y_BCHW).square().mean(dim=(1, 2, 3))


def ssim_map(x_BCHW: torch.Tensor, y_BCHW: torch.Tensor) -> torch.Tensor:
    """SSIM at every window position, (B, C, H - 10, W - 10), of images in [0, 1]; in the dtype of the input.

    Raises:
        ImageError: the images are smaller than the window.
    """
    luminance, contrast = ssim_terms(x_BCHW, y_BCHW)
    return luminance * contrast


def ssim_terms(x_BCHW: torch.Tensor, y_BCHW: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Luminance and contrast-structure; the two variances are needed as their sum only, so four maps are filtered."""
    require_size(x_BCHW, SSIM_WINDOW_PX, "SSIM")
    c1, c2 = 0.01**2, 0.03**2
    taps = gaussian_taps(SSIM_WINDOW_PX, 1.5)
    moments = (x_BCHW, y_BCHW, torch.addcmul(x_BCHW.square(), y_BCHW, y_BCHW), x_BCHW * y_BCHW)
    mean_x, mean_y, squares, product = (filter_valid(moment, taps) for moment in moments)
    mean_squares, mean_product = torch.addcmul(mean_x.square(), mean_y, mean_y), mean_x * mean_y
    luminance = (2 * mean_product).add_(c1) / (mean_squares + c1)
    contrast = (product - mean_product).mul_(2).add_(c2) / (squares - mean_squares).add_(c2)
    return luminance, contrast


def _blocking_effect(x_BCHW: torch.Tensor, block_px: int) -> torch.Tensor:
    sums: dict[bool, Any] = {True: 0.0, False: 0.0}
    counts = {True: 0, False: 0}
    for dim in (2, 3):
        steps = x_BCHW.diff(dim=dim).square()
        position = torch.arange(steps.shape[dim], device=steps.device)
        for on_border in sums:
            index = position[(position % block_px == block_px - 1) == on_border]
            sums[on_border] = sums[on_border] + steps.index_select(dim, index).sum(dim=(2, 3))
            counts[on_border] += len(index) * steps.shape[5 - dim]
    excess: torch.Tensor = sums[True] / counts[True] - sums[False] / counts[False]
    weight = torch.tensor(float(block_px)).log2() / torch.tensor(float(min(x_BCHW.shape[2:]))).log2()
    return excess.clamp(min=0) * weight.item()
