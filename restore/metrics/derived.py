"""MS-SSIM and PSNR-B, which grew out of SSIM and PSNR, as batched tensor code in float64.

Sources: Wang et al. 2003 (MS-SSIM), Yim & Bovik 2011 (PSNR-B). Which channel, border and rounding a published figure
uses is said by `restore.metrics.PROTOCOLS`.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F

from restore.metrics.inputs import (
    Bits,
    Border,
    Images,
    Luma,
    Preparation,
    Score,
    White,
    as_pair,
    as_score,
    require_size,
)
from restore.metrics.levels import SSIM_WINDOW_PX
from restore.metrics.registration import metric
from restore.metrics.windows import ssim_terms

__all__ = ["MS_SSIM_WEIGHTS", "ms_ssim", "psnr_b"]

MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


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
) -> Score:
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
) -> Score:
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
