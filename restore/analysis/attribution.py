"""Which pixels an output depends on: the effective receptive field, and local attribution.

Luo et al. 2016, arXiv 1701.04128; LAM, Gu & Dong 2021, arXiv 2011.09278. Images are of one, (1, C, H, W).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch
import torch.nn.functional as F

__all__ = ["blurred", "diffusion_index", "gini", "held_side", "integrated_gradients", "receptive_field"]

BLUR_SIGMA = 1.2
"""Of the baseline, in pixels: the image without what is to be restored, as in the paper."""


def receptive_field(center: Callable[[torch.Tensor], torch.Tensor], x_BCHW: torch.Tensor) -> torch.Tensor:
    """(H, W): the absolute gradient of a number by each pixel, summed over its channels.

    Args:
        center: from images to the value, or the sum of the values, at the place that is asked about.
        x_BCHW: the image.
    """
    with torch.enable_grad():
        x_BCHW = x_BCHW.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(center(x_BCHW), x_BCHW)
    return gradient[0].abs().sum(dim=0)


def held_side(field_HW: torch.Tensor, place: tuple[int, int], share: float) -> int:
    """The side, odd, of the smallest square around a pixel (row, column) that holds this share of the sum."""
    total, (row, column) = field_HW.sum(), place
    reach = 0
    while True:
        part = field_HW[max(row - reach, 0) : row + reach + 1, max(column - reach, 0) : column + reach + 1]
        if part.sum() >= share * total:
            return 2 * reach + 1
        reach += 1


def integrated_gradients(
    number: Callable[[torch.Tensor], torch.Tensor], x_BCHW: torch.Tensor, num_steps: int = 20
) -> torch.Tensor:
    """(H, W): what each pixel adds to a number on the way from the blurred image to the image, summed over channels.

    The path sharpens the image step by step; the sum over pixels is close to the change of the number.
    """
    path = [blurred(x_BCHW, BLUR_SIGMA * (1 - step / num_steps)) for step in range(num_steps + 1)]
    total = torch.zeros_like(x_BCHW)
    for before, after in itertools.pairwise(path):
        with torch.enable_grad():
            middle = ((before + after) / 2).requires_grad_()
            (gradient,) = torch.autograd.grad(number(middle), middle)
        total += gradient * (after - before)
    return total[0].sum(dim=0)


def blurred(x_BCHW: torch.Tensor, sigma: float) -> torch.Tensor:
    """The image under a Gaussian of this standard deviation, in pixels; borders are reflected."""
    if sigma <= 0:
        return x_BCHW.clone()
    reach = min(int(4 * sigma + 0.5), min(x_BCHW.shape[2:]) - 1)
    places = torch.arange(-reach, reach + 1, dtype=x_BCHW.dtype)
    kernel = torch.exp(-(places**2) / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).expand(x_BCHW.shape[1], 1, -1)
    padded = F.pad(x_BCHW, (reach,) * 4, mode="reflect")
    columns = F.conv2d(padded, kernel[..., None, :], groups=x_BCHW.shape[1])
    return F.conv2d(columns, kernel[..., None], groups=x_BCHW.shape[1])


def gini(values: torch.Tensor) -> float:
    """Gini's coefficient of absolute values: 0 where all are equal, near 1 where one has everything."""
    sorted_values = values.abs().flatten().double().sort().values
    count, total = len(sorted_values), sorted_values.sum()
    if not total > 0:
        return 0.0
    ranks = torch.arange(1, count + 1, dtype=torch.float64)
    return float(((2 * ranks - count - 1) * sorted_values).sum() / (count * total))


def diffusion_index(attribution_HW: torch.Tensor) -> float:
    """100 (1 - Gini): the larger, the more pixels take part (LAM, equation 8)."""
    return 100 * (1 - gini(attribution_HW))
