"""Losses of adversarial training: what a discriminator's scores mean, and what else is compared.

Every GAN loss takes scores (logits) and says whether they are to look real, and whether the discriminator learns (then
the weight does not apply) or the generator.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from restore.registry import LOSSES

__all__ = ["FeatureMatchingLoss", "GANLoss", "MultiScaleGANLoss", "artifact_map"]

LEAST_VARIANCE = 1e-12  # below it, a root of the fifth order has no finite gradient

GanType = Literal["vanilla", "lsgan", "wgan", "wgan_softplus", "hinge"]


@LOSSES.add()
class GANLoss(nn.Module):
    """The adversarial loss.

    Attributes:
        compares: what it is given (see `restore.losses`).

    Args:
        gan_type: vanilla (binary cross entropy), lsgan (squared), wgan (mean score), wgan_softplus (logistic) or hinge.
        real_label_val: target of real images, for vanilla and lsgan.
        fake_label_val: target of restored images, for vanilla and lsgan.
        loss_weight: factor of the generator's loss.
    """

    compares: ClassVar[str] = "scores"

    def __init__(
        self,
        gan_type: GanType,
        real_label_val: float = 1.0,
        fake_label_val: float = 0.0,
        loss_weight: float = 1.0,
    ):
        super().__init__()
        self.gan_type = gan_type
        self.real_label = real_label_val
        self.fake_label = fake_label_val
        self.loss_weight = loss_weight

    def forward(self, scores: Tensor, target_is_real: bool, is_disc: bool = False) -> Tensor:
        """The loss of `scores` that are to look real or not."""
        loss = self._loss(scores, target_is_real, is_disc)
        return loss if is_disc else self.loss_weight * loss

    def _loss(self, scores: Tensor, real: bool, is_disc: bool) -> Tensor:
        signed = -scores if real else scores  # small where the scores are as wanted
        if self.gan_type == "wgan":
            return signed.mean()
        if self.gan_type == "wgan_softplus":
            return F.softplus(signed).mean()
        if self.gan_type == "hinge":
            return F.relu(1 + signed).mean() if is_disc else signed.mean()
        target = torch.full_like(scores, self.real_label if real else self.fake_label)
        if self.gan_type == "lsgan":
            return F.mse_loss(scores, target)
        return F.binary_cross_entropy_with_logits(scores, target)


@LOSSES.add()
class MultiScaleGANLoss(GANLoss):
    """The mean of `GANLoss` over the scores of several discriminators, or over their last feature maps."""

    def forward(
        self, scores: Tensor | Sequence[Tensor | Sequence[Tensor]], target_is_real: bool, is_disc: bool = False
    ) -> Tensor:
        """The loss; an entry that is itself a list counts with its last element."""
        if isinstance(scores, Tensor):
            return super().forward(scores, target_is_real, is_disc)
        last = [each if isinstance(each, Tensor) else each[-1] for each in scores]
        losses = [super(MultiScaleGANLoss, self).forward(each, target_is_real, is_disc) for each in last]
        return cast(Tensor, sum(losses)) / len(losses)


@LOSSES.add("FeatureMatchingLoss", "GANFeatLoss")
class FeatureMatchingLoss(nn.Module):
    """Distance of the discriminator's features of restored and real images (Wang et al. 2018, arXiv:1711.11585).

    Args:
        loss_weight: factor of the loss.
        criterion: distance of two maps.
        reduction: over the values of a map.
    """

    compares: ClassVar[str] = "features"

    def __init__(
        self,
        loss_weight: float = 1.0,
        criterion: Literal["l1", "l2"] = "l1",
        reduction: Literal["mean", "sum"] = "mean",
    ):
        super().__init__()
        self.loss_weight = loss_weight
        self.reduction = reduction
        self.distance = {"l1": F.l1_loss, "l2": F.mse_loss}[criterion]

    def forward(self, restored: Sequence[Tensor], reference: Sequence[Tensor]) -> Tensor:
        """The mean over the maps; the reference's carry no gradient."""
        distances = [
            self.distance(one, other.detach(), reduction=self.reduction)
            for one, other in zip(restored, reference, strict=True)
        ]
        return self.loss_weight * cast(Tensor, sum(distances)) / len(distances)


def artifact_map(restored: Tensor, reference: Tensor, averaged: Tensor, ksize: int = 7) -> Tensor:
    """Where a generator invents (Liang et al. 2022, arXiv:2203.09195): the weight of locally discriminative learning.

    Returns (B, 1, H, W): the local variance of the generator's error, zero where its moving average errs more.
    Gradients go through it to `restored`, as in the authors' code and BasicSR's.

    Args:
        restored: (B, C, H, W), the generator's.
        reference: the true image.
        averaged: what the generator's moving average restores.
        ksize: side of the window, odd.
    """
    error = (reference - restored).abs().sum(1, keepdim=True)
    averaged_error = (reference - averaged).abs().sum(1, keepdim=True)
    image_level = error.var(dim=(-1, -2, -3), keepdim=True).clamp(min=LEAST_VARIANCE) ** 0.2
    padded = F.pad(error, [ksize // 2] * 4, mode="reflect")
    windows = padded.unfold(2, ksize, 1).unfold(3, ksize, 1)
    local = windows.var(dim=(-1, -2))
    return torch.where(error < averaged_error, torch.zeros_like(error), image_level * local)
