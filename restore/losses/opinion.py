"""Losses of quality models, and quality models as losses of restoration."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from restore.quality import load_quality
from restore.registry import LOSSES

__all__ = ["IQTLoss", "OpinionLoss"]


@LOSSES.add()
class OpinionLoss(nn.Module):
    """Cross-entropy between predicted logits (B, L) and the shares (B, L) in which people chose L levels.

    Args:
        loss_weight: factor of the loss.
    """

    compares: ClassVar[str] = "opinions"

    def __init__(self, loss_weight: float = 1.0):
        super().__init__()
        self.loss_weight = loss_weight

    def forward(self, logits: Tensor, shares: Tensor) -> Tensor:
        """The loss; shares are normalised to sum to one."""
        shares = shares / shares.sum(dim=1, keepdim=True)
        return -self.loss_weight * (shares * torch.log_softmax(logits, dim=1)).sum(dim=1).mean()


@LOSSES.add("IQTLoss", "iqt")
class IQTLoss(nn.Module):
    """How far the score of IQT is below that of the reference itself; the images are judged whole, with gradients.

    The model is frozen and kept out of the state dict. Predictions are not bounded, so give it a small weight beside a
    pixel loss.

    Args:
        loss_weight: factor of the loss.
        weights: a shipped quality model, or a file.
    """

    def __init__(self, loss_weight: float = 1.0, weights: str = "iqt_small"):
        super().__init__()
        self.loss_weight = loss_weight
        self.weights = weights
        load_quality(weights)  # so that a name that does not exist is found before training begins

    def forward(self, restored: Tensor, reference: Tensor) -> Tensor:
        """The mean over the batch; grey images count as R = G = B."""
        model = load_quality(self.weights, device=restored.device)
        restored, reference = (images.float().expand(-1, 3, -1, -1) for images in (restored, reference))
        with torch.no_grad():
            best = model(reference, reference)
        return self.loss_weight * (best - model(restored, reference)).mean()
