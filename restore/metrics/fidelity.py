"""PSNR and SSIM: of 8-bit arrays by loops over pixels, without torch; of all else as batched tensor code in float64.

Source: Wang et al. 2004 (SSIM: 11x11 Gaussian, sigma 1.5, valid region, mean over pixels and channels; the values of
BasicSR and of MATLAB's `ssim_index`). Which channel, border and rounding a published figure uses is said by
`restore.metrics.PROTOCOLS`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from restore.metrics.inputs import (
    Bits,
    Border,
    Images,
    Luma,
    Preparation,
    Score,
    White,
    as_levels,
    as_pair,
    as_score,
    require_size,
)
from restore.metrics.levels import SSIM_WINDOW_PX, mean_ssim, psnr_of_levels
from restore.metrics.registration import metric

if TYPE_CHECKING:
    import torch

__all__ = ["mean_squared_error", "psnr", "ssim"]


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
) -> Score:
    """Peak signal-to-noise ratio in dB over all pixels and channels; infinite for identical images.

    The arguments are those of `restore.metrics.inputs.Preparation`.

    Raises:
        ImageError: the images differ in size or channels, or the border leaves nothing.
    """
    prepare = Preparation(border_px, luma, y_rounding, bits, data_range)
    if levels := as_levels(restored, reference, prepare):
        return psnr_of_levels(*levels)
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
) -> Score:
    """Structural similarity, the mean over all windows and channels; 1 for identical images.

    The arguments are those of `restore.metrics.inputs.Preparation`.

    Raises:
        ImageError: as `psnr`, or the images are smaller than the 11x11 window.
    """
    prepare = Preparation(border_px, luma, y_rounding, bits, data_range)
    if (levels := as_levels(restored, reference, prepare)) and (value := mean_ssim(*levels)) is not None:
        return value
    from restore.metrics.windows import mean_ssim_of_batch

    x_BCHW, y_BCHW = as_pair(restored, reference, prepare)
    require_size(x_BCHW, SSIM_WINDOW_PX, "SSIM")
    return as_score(mean_ssim_of_batch(x_BCHW, y_BCHW), restored)


def mean_squared_error(x_BCHW: torch.Tensor, y_BCHW: torch.Tensor) -> torch.Tensor:
    """The mean squared error of each image, (B,)."""
    return (x_BCHW - y_BCHW).square().mean(dim=(1, 2, 3))
