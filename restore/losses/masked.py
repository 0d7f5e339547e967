"""What is lost where an image was hidden: the loss of masked pre-training."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restore.registry import LOSSES

__all__ = ["MaskedPatchLoss", "in_patches"]

_EPS = 1e-6


@LOSSES.add()
class MaskedPatchLoss(nn.Module):
    """Mean squared error of hidden patches (FCMAE, Woo et al. 2023, arXiv 2301.00808, section 3.1).

    Args:
        loss_weight: factor of the loss.
        share: of the patches of each image that are hidden, in (0, 1).
        patch_px: side of the patches; None: the coarsest stride of the encoder. A multiple of that.
        normalised: whether each patch is to be predicted relative to its own mean and deviation.
        decoder_width: channels of the decoder, which is not shipped.
    """

    compares: ClassVar[str] = "masked"

    def __init__(
        self,
        loss_weight: float = 1.0,
        share: float = 0.6,
        patch_px: int | None = None,
        normalised: bool = True,
        decoder_width: int = 64,
    ):
        super().__init__()
        if not 0 < share < 1:
            raise ValueError(f"share is of the patches that are hidden, between 0 and 1; given: {share}")
        self.loss_weight, self.share, self.patch_px = loss_weight, share, patch_px
        self.normalised, self.decoder_width = normalised, decoder_width

    def forward(self, predicted_BKhw: Tensor, image_BCHW: Tensor, mask_B1HW: Tensor) -> Tensor:
        """The loss.

        Args:
            predicted_BKhw: the pixels of each place of a map, K = C * stride^2.
            image_BCHW: what they should be.
            mask_B1HW: 1 where a patch was hidden, at least one per batch.
        """
        stride = image_BCHW.shape[-1] // predicted_BKhw.shape[-1]
        wanted = in_patches(image_BCHW, stride)
        if self.normalised:
            mean, deviation = wanted.mean(dim=1, keepdim=True), wanted.var(dim=1, keepdim=True).add(_EPS).sqrt()
            wanted = (wanted - mean) / deviation
        hidden = F.interpolate(mask_B1HW, predicted_BKhw.shape[-2:], mode="nearest")
        error = (predicted_BKhw - wanted).square().mean(dim=1, keepdim=True)
        return self.loss_weight * (error * hidden).sum() / hidden.sum()


def in_patches(image_BCHW: Tensor, side: int) -> Tensor:
    """Images as maps of patches, (B, C * side^2, H / side, W / side)."""
    return torch.pixel_unshuffle(image_BCHW, side)
