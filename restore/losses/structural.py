"""SSIM and MS-SSIM as losses: one minus the similarity that `restore.metrics` measures in RGB, with gradients.

`MSSIMLoss` is another MS-SSIM, of luma, as traiNNer-redux trains with it (the-database/traiNNer-redux, Apache-2.0).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from restore.errors import ImageError
from restore.metrics.derived import MS_SSIM_WEIGHTS
from restore.metrics.levels import SSIM_WINDOW_PX
from restore.metrics.windows import ssim_terms
from restore.registry import LOSSES

__all__ = ["MSSIMLoss", "MSSSIMLoss", "SSIMLoss"]

_LUMA = (0.299, 0.587, 0.114)
_FLOOR = 1e-6  # a negative contrast has no real power, and zero has no finite gradient


@LOSSES.add("SSIMLoss", "ssim")
class SSIMLoss(nn.Module):
    """1 - SSIM.

    Args:
        loss_weight: factor of the loss.
    """

    def __init__(self, loss_weight: float = 1.0):
        super().__init__()
        self.loss_weight = loss_weight

    def forward(self, restored: Tensor, reference: Tensor) -> Tensor:
        """The loss."""
        luminance, contrast = ssim_terms(restored, reference)
        return self.loss_weight * (1 - (luminance * contrast).mean())


@LOSSES.add("MSSSIMLoss", "MS_SSIMLoss")
class MSSSIMLoss(nn.Module):
    """1 - MS-SSIM: contrast at each scale, luminance at the coarsest.

    Args:
        loss_weight: factor of the loss.
        weights: exponents of the scales, divided by their sum. Patches must be at least 11 px wide at the coarsest
            scale, 176 px for the five of the metric; fewer scales suit smaller patches.
    """

    def __init__(self, loss_weight: float = 1.0, weights: Sequence[float] = MS_SSIM_WEIGHTS):
        super().__init__()
        self.loss_weight = loss_weight
        self.weights = [weight / sum(weights) for weight in weights]

    def forward(self, restored: Tensor, reference: Tensor) -> Tensor:
        """The loss.

        Raises:
            ImageError: the images are too small for so many scales.
        """
        height, width = restored.shape[-2:]
        least_px = 11 * 2 ** (len(self.weights) - 1)
        if min(height, width) < least_px:
            raise ImageError(
                f"MS-SSIM of {len(self.weights)} scales needs at least {least_px}x{least_px} px; given: "
                f"{height}x{width}. Fewer `weights` are fewer scales."
            )
        similarity_BC = torch.ones_like(restored[..., 0, 0])
        for scale, weight in enumerate(self.weights):
            if scale:
                restored, reference = F.avg_pool2d(restored, 2), F.avg_pool2d(reference, 2)
            luminance, contrast = ssim_terms(restored, reference)
            last = scale == len(self.weights) - 1
            term_BC = (luminance * contrast if last else contrast).mean(dim=(2, 3))
            similarity_BC = similarity_BC * term_BC.clamp(min=_FLOOR) ** weight
        return self.loss_weight * (1 - similarity_BC.mean())


@LOSSES.add()
class MSSIMLoss(nn.Module):
    """1 - MS-SSIM of luma clipped to [0, 1]: negative contrasts count as 0, and small images are padded with zeros.

    Where `MSSSIMLoss` needs patches of 176 px, the coarsest scales of smaller ones see more border than image here.

    Args:
        loss_weight: factor of the loss.
        test_y_channel: compare luma (0.299 R + 0.587 G + 0.114 B); false: RGB.
        include_luminance: whether the luminance counts at the coarsest scale.
    """

    def __init__(self, loss_weight: float = 1.0, test_y_channel: bool = True, include_luminance: bool = False):
        super().__init__()
        self.loss_weight, self.luma, self.include_luminance = loss_weight, test_y_channel, include_luminance

    def forward(self, restored: Tensor, reference: Tensor) -> Tensor:
        """The loss, in float32."""
        with torch.autocast(restored.device.type, enabled=False):
            return self._loss(self._seen(restored), self._seen(reference))

    def _loss(self, restored: Tensor, reference: Tensor) -> Tensor:
        similarity_B = torch.ones_like(restored[:, 0, 0, 0])
        for scale, weight in enumerate(MS_SSIM_WEIGHTS):
            if scale:
                odd = [side % 2 for side in restored.shape[2:]]
                restored, reference = (F.avg_pool2d(image, 2, padding=odd) for image in (restored, reference))
            border = [SSIM_WINDOW_PX // 2] * 4 if restored.shape[3] < SSIM_WINDOW_PX else [0] * 4
            luminance, contrast = ssim_terms(F.pad(restored, border), F.pad(reference, border))
            term = contrast.relu()
            if self.include_luminance and scale == len(MS_SSIM_WEIGHTS) - 1:
                term = luminance * term
            similarity_B = similarity_B * term.mean(dim=(1, 2, 3)).clamp(min=_FLOOR) ** weight
        return self.loss_weight * (1 - similarity_B.mean().clamp(0, 1))

    def _seen(self, image_BCHW: Tensor) -> Tensor:
        image_BCHW = image_BCHW.float().clamp(0, 1)
        if not self.luma or image_BCHW.shape[1] != len(_LUMA):
            return image_BCHW
        return torch.einsum("c,bchw->bhw", image_BCHW.new_tensor(_LUMA), image_BCHW)[:, None]
