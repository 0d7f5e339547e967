"""PSNR and SSIM of arrays, without torch."""

from __future__ import annotations

import math

import cv2
import numpy as np

from restore.images.compiled import sum_of_similarity
from restore.metrics.filters import gaussian_taps
from restore.metrics.inputs import require_sides

__all__ = ["SSIM_WINDOW_PX", "mean_ssim", "psnr_of_levels"]

SSIM_WINDOW_PX = 11


def psnr_of_levels(x_HWC: np.ndarray, y_HWC: np.ndarray) -> float:
    """PSNR of uint8 images; the squared differences are whole numbers, and summed as such."""
    total = round(cv2.norm(x_HWC.reshape(len(x_HWC), -1), y_HWC.reshape(len(y_HWC), -1), cv2.NORM_L2SQR))
    return -10 * math.log10(total / (255**2 * x_HWC.size)) if total else math.inf


def mean_ssim(x_HWC: np.ndarray, y_HWC: np.ndarray) -> float | None:
    """The mean of SSIM of arrays, uint8 or float64 in [0, 1]; None without the compiled library."""
    height, width, channels = x_HWC.shape
    require_sides(height, width, SSIM_WINDOW_PX, "SSIM")
    total = sum_of_similarity(x_HWC, y_HWC, np.array(gaussian_taps(SSIM_WINDOW_PX, 1.5)))
    last = SSIM_WINDOW_PX - 1
    return None if total is None else total / (channels * (height - last) * (width - last))
