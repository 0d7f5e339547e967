"""The metrics of BasicSR under their own names and options, so that its option files run unchanged.

    metrics:
      psnr: {type: calculate_psnr, crop_border: 4, test_y_channel: true}

Two things are ours: images are RGB and floats in [0, 1], as everywhere in this package; and `better` may only say what
is true (BasicSR takes "higher" for every metric whose block does not say otherwise, NIQE included).
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch

from restore.metrics.fidelity import mean_squared_error, psnr, ssim
from restore.metrics.inputs import Border, Images, Preparation, as_pair, as_score
from restore.metrics.registration import metric

__all__ = ["calculate_psnr", "calculate_psnr_pt", "calculate_ssim", "calculate_ssim_pt"]

Order = Literal["HWC", "CHW"]


@metric("calculate_psnr", higher_is_better=True)
def calculate_psnr(
    restored: Images,
    reference: Images,
    *,
    crop_border: Border,
    input_order: Order = "HWC",
    test_y_channel: bool = False,
    better: Literal["higher"] = "higher",
) -> float | torch.Tensor:
    """PSNR in dB; see `restore.metrics.psnr`."""
    pair = in_order(restored, input_order), in_order(reference, input_order)
    return psnr(*pair, border_px=crop_border, luma=test_y_channel)


@metric("calculate_ssim", higher_is_better=True)
def calculate_ssim(
    restored: Images,
    reference: Images,
    *,
    crop_border: Border,
    input_order: Order = "HWC",
    test_y_channel: bool = False,
    better: Literal["higher"] = "higher",
) -> float | torch.Tensor:
    """SSIM; see `restore.metrics.ssim`."""
    pair = in_order(restored, input_order), in_order(reference, input_order)
    return ssim(*pair, border_px=crop_border, luma=test_y_channel)


@metric("calculate_psnr_pt", higher_is_better=True)
def calculate_psnr_pt(
    restored: Images,
    reference: Images,
    *,
    crop_border: Border,
    test_y_channel: bool = False,
    better: Literal["higher"] = "higher",
) -> float | torch.Tensor:
    """PSNR in dB with 1e-8 added to the mean squared error, so that identical images score 80 dB."""
    x_BCHW, y_BCHW = as_pair(restored, reference, Preparation(border_px=crop_border, luma=test_y_channel))
    return as_score(-10 * (mean_squared_error(x_BCHW, y_BCHW) + 1e-8).log10(), restored)


@metric("calculate_ssim_pt", higher_is_better=True)
def calculate_ssim_pt(
    restored: Images,
    reference: Images,
    *,
    crop_border: Border,
    test_y_channel: bool = False,
    better: Literal["higher"] = "higher",
) -> float | torch.Tensor:
    """SSIM; the same as `calculate_ssim`, which takes batches as well."""
    return ssim(restored, reference, border_px=crop_border, luma=test_y_channel)


def in_order(images: Images, input_order: Order | Literal["HW"]) -> Images:
    """An array given as (C, H, W) as (H, W, C); everything else as it is."""
    if input_order == "CHW" and isinstance(images, np.ndarray) and images.ndim == 3:
        return images.transpose(1, 2, 0)
    return images
