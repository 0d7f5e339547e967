"""SSIM and MS-SSIM as losses: one minus the mean similarity, with gradients.

Window, constants and scales are those of the metrics (Wang et al. 2003, 2004): an 11-tap Gaussian of sigma 1.5 and the
valid region, computed in RGB on [0, 1].
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from restore.errors import ImageError
from restore.registry import LOSSES

__all__ = ["MSSSIMLoss", "SSIMLoss"]

_SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


class _Windowed(nn.Module):
    def __init__(self, loss_weight: float, window_size: int, sigma: float):
        super().__init__()
        self.loss_weight = loss_weight
        position = torch.arange(window_size) - (window_size - 1) / 2
        taps = torch.exp(-position.square() / (2 * sigma**2))
        self.register_buffer("taps", taps / taps.sum(), persistent=False)

    def _similarities(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Mean over the valid region of SSIM and of its contrast and structure part, (B, C) each."""
        if min(x.shape[-2:]) < len(self.taps):
            raise ImageError(f"SSIM needs at least {len(self.taps)} pixels a side; got {tuple(x.shape[-2:])}.")
        moments = self._blur(torch.cat([x, y, x * x, y * y, x * y], dim=1))
        mean_x, mean_y, square_x, square_y, product = moments.chunk(5, dim=1)
        variance = square_x - mean_x.square() + square_y - mean_y.square()
        structure = (2 * (product - mean_x * mean_y) + 0.03**2) / (variance + 0.03**2)
        luminance = (2 * mean_x * mean_y + 0.01**2) / (mean_x.square() + mean_y.square() + 0.01**2)
        return (luminance * structure).mean((2, 3)), structure.mean((2, 3))

    def _blur(self, x: Tensor) -> Tensor:
        channels, size = x.shape[1], len(self.taps)
        taps = self.taps.to(x.dtype)
        x = F.conv2d(x, taps.view(1, 1, size, 1).expand(channels, 1, size, 1), groups=channels)
        return F.conv2d(x, taps.view(1, 1, 1, size).expand(channels, 1, 1, size), groups=channels)


@LOSSES.add()
class SSIMLoss(_Windowed):
    """1 - SSIM.

    Args:
        loss_weight: factor of the loss.
        window_size: taps of the Gaussian window.
        sigma: its standard deviation in pixels.
    """

    def __init__(self, loss_weight: float = 1.0, window_size: int = 11, sigma: float = 1.5):
        super().__init__(loss_weight, window_size, sigma)

    def forward(self, restored: Tensor, reference: Tensor) -> Tensor:
        """The loss."""
        return self.loss_weight * (1 - self._similarities(restored, reference)[0].mean())


@LOSSES.add("MSSSIMLoss", "MS_SSIMLoss")
class MSSSIMLoss(_Windowed):
    """1 - MS-SSIM: contrast and structure at each scale, luminance at the coarsest.

    Args:
        loss_weight: factor of the loss.
        window_size: taps of the Gaussian window.
        sigma: its standard deviation in pixels.
        weights: exponents of the scales; patches must be at least `window_size` times 2 ** (their number - 1) wide, so
            fewer of them suit small patches. They are divided by their sum.
    """

    def __init__(
        self,
        loss_weight: float = 1.0,
        window_size: int = 11,
        sigma: float = 1.5,
        weights: Sequence[float] = _SCALE_WEIGHTS,
    ):
        super().__init__(loss_weight, window_size, sigma)
        self.register_buffer("weights", torch.tensor(weights) / sum(weights), persistent=False)

    def forward(self, restored: Tensor, reference: Tensor) -> Tensor:
        """The loss."""
        similarity: Tensor | float = 1.0
        for scale, weight in enumerate(self.weights):
            if scale:
                restored, reference = F.avg_pool2d(restored, 2), F.avg_pool2d(reference, 2)
            whole, structure = self._similarities(restored, reference)
            part = whole if scale == len(self.weights) - 1 else structure
            similarity = similarity * part.clamp(min=1e-6) ** weight  # a negative one has no real power
        return self.loss_weight * (1 - similarity.mean())
