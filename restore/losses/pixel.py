"""Losses between pixels: L1, L2, Charbonnier, PSNR and total variation, with BasicSR's names and options.

Every one takes (restored, reference), both (B, C, H, W), and returns a scalar already multiplied by its weight; with
`reduction: none` a map of the input's shape.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from restore.images import rgb_to_y
from restore.registry import LOSSES

__all__ = ["CharbonnierLoss", "ColourLoss", "L1Loss", "MSELoss", "PSNRLoss", "WeightedTVLoss"]

Reduction = Literal["mean", "sum", "none"]


class _PixelLoss(nn.Module, ABC):
    """Reduces a map of errors, each multiplied by an optional weight map."""

    def __init__(self, loss_weight: float = 1.0, reduction: Reduction = "mean"):
        super().__init__()
        self.loss_weight = loss_weight
        self.reduction = reduction

    def forward(self, restored: Tensor, reference: Tensor, weight: Tensor | None = None) -> Tensor:
        """The loss; `weight` (broadcastable) counts some pixels more than others, and means divide by its sum."""
        errors = self.errors(restored, reference)
        if weight is None:
            return self.loss_weight * _reduce(errors, self.reduction)
        weighted = errors * weight
        if self.reduction == "mean":
            return self.loss_weight * weighted.sum() / weight.expand_as(errors).sum()
        return self.loss_weight * _reduce(weighted, self.reduction)

    @abstractmethod
    def errors(self, restored: Tensor, reference: Tensor) -> Tensor:
        """The error of every pixel."""


@LOSSES.add()
class L1Loss(_PixelLoss):
    """Mean absolute error."""

    def errors(self, restored: Tensor, reference: Tensor) -> Tensor:
        """Absolute differences."""
        return F.l1_loss(restored, reference, reduction="none")


@LOSSES.add()
class ColourLoss(_PixelLoss):
    """Mean absolute error of images averaged over squares: brightness and colours, without detail.

    After the colour loss of Ignatov et al. 2017 (DPED, arXiv 1704.02470, section 3.1.1), which blurs.

    Args:
        loss_weight: factor of the loss.
        reduction: of the errors of all squares; with `none` a map of them.
        side_px: side of a square, in pixels; larger than the image for its mean.
    """

    def __init__(self, loss_weight: float = 1.0, reduction: Reduction = "mean", side_px: int = 16):
        super().__init__(loss_weight, reduction)
        if side_px < 1:
            raise ValueError(f"side_px is {side_px}; must be at least 1")
        self.side_px = side_px

    def errors(self, restored: Tensor, reference: Tensor) -> Tensor:
        """Absolute differences of the squares' means."""
        height, width = (min(self.side_px, side) for side in restored.shape[2:])
        ours, theirs = (F.avg_pool2d(image, (height, width), ceil_mode=True) for image in (restored, reference))
        return F.l1_loss(ours, theirs, reduction="none")


@LOSSES.add()
class MSELoss(_PixelLoss):
    """Mean squared error."""

    def errors(self, restored: Tensor, reference: Tensor) -> Tensor:
        """Squared differences."""
        return F.mse_loss(restored, reference, reduction="none")


@LOSSES.add()
class CharbonnierLoss(_PixelLoss):
    """sqrt(difference^2 + eps): L1 that is smooth at zero (Lai et al. 2017, arXiv:1704.03915)."""

    def __init__(self, loss_weight: float = 1.0, reduction: Reduction = "mean", eps: float = 1e-12):
        super().__init__(loss_weight, reduction)
        self.eps = eps

    def errors(self, restored: Tensor, reference: Tensor) -> Tensor:
        """Smoothed absolute differences."""
        return torch.sqrt((restored - reference).square() + self.eps)


@LOSSES.add()
class PSNRLoss(nn.Module):
    """Mean over the batch of -PSNR in dB, as NAFNet trains: 10 log10(MSE + 1e-8).

    Args:
        loss_weight: factor of the loss.
        reduction: only `mean`; in the signature because option files say it.
        toY: compare luma (BT.601 studio range) instead of RGB.
    """

    def __init__(self, loss_weight: float = 1.0, reduction: Literal["mean"] = "mean", toY: bool = False):
        super().__init__()
        self.loss_weight = loss_weight
        self.luma = toY

    def forward(self, restored: Tensor, reference: Tensor) -> Tensor:
        """The loss."""
        if self.luma:
            restored, reference = rgb_to_y(restored), rgb_to_y(reference)
        mse = (restored - reference).square().mean(dim=(1, 2, 3))
        return self.loss_weight * 10 / math.log(10) * torch.log(mse + 1e-8).mean()


@LOSSES.add()
class WeightedTVLoss(nn.Module):
    """Total variation of the restored image: mean (or summed) absolute differences of neighbours in both directions."""

    def __init__(self, loss_weight: float = 1.0, reduction: Literal["mean", "sum"] = "mean"):
        super().__init__()
        self.loss_weight = loss_weight
        self.reduction = reduction

    def forward(self, restored: Tensor, reference: Tensor | None = None, *, weight: Tensor | None = None) -> Tensor:
        """The loss, which does not look at the reference; `weight` (B, 1 or C, H, W) counts some pixels more."""
        down = (restored[:, :, :-1] - restored[:, :, 1:]).abs()
        right = (restored[..., :-1] - restored[..., 1:]).abs()
        if weight is not None:
            down, right = down * weight[:, :, :-1], right * weight[..., :-1]
        return self.loss_weight * (_reduce(down, self.reduction) + _reduce(right, self.reduction))


def _reduce(errors: Tensor, reduction: Reduction) -> Tensor:
    return errors if reduction == "none" else errors.mean() if reduction == "mean" else errors.sum()
