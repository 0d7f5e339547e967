"""Losses of quality models, and quality models as losses of restoration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restore.data.ratings.opinions import SPREAD
from restore.layers.boxes import area_of, box_of
from restore.metrics.structural import gradient_similarity
from restore.quality import load_quality
from restore.registry import LOSSES

__all__ = [
    "BinaryOpinionLoss",
    "IQTLoss",
    "OpinionLoss",
    "PatchOpinionLoss",
    "level_logits",
    "local_agreement",
    "local_opinions",
]


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
        """The loss; shares are normalised to sum to one. Of patches, (B, L, h, w), it is the mean."""
        shares = shares / shares.sum(dim=1, keepdim=True)
        return -self.loss_weight * (shares * torch.log_softmax(logits, dim=1)).sum(dim=1).mean()


@LOSSES.add()
class BinaryOpinionLoss(OpinionLoss):
    """Binary cross-entropies over levels: for each but the best one, whether a choice is above it, and their mean.

    DeiT III (Touvron et al. 2022, arXiv 2204.07118) learns classes by binary losses, each for itself. Levels have an
    order, so the questions here are those of ordinal regression: the shares above level 1, 2, ... of a prediction are
    compared with those of people. A mistake of two levels costs more than one of one level, unlike by `OpinionLoss`.
    """

    def forward(self, logits: Tensor, shares: Tensor) -> Tensor:
        """The loss; shares are normalised to sum to one."""
        shares = shares / shares.sum(dim=1, keepdim=True)
        wanted = shares.flip(1).cumsum(1).flip(1)[:, 1:].clamp(0, 1)
        logs = torch.log_softmax(logits, dim=1)
        above, below = logs.flip(1).logcumsumexp(1).flip(1)[:, 1:], logs.logcumsumexp(1)[:, :-1]
        return -self.loss_weight * (wanted * above + (1 - wanted) * below).mean()


@LOSSES.add()
class PatchOpinionLoss(OpinionLoss):
    """`OpinionLoss` for images, and the same for each of their patches: dense labels (Jiang et al. 2021, LV-ViT).

    Nobody is asked about patches. Their opinions lie about that of the image, higher where the image agrees with its
    reference better than elsewhere in it, lower where it agrees less: opinion + q - mean(q), cut to [0, 1]. Here
    q = 1 - sqrt(1 - s), and s is the mean over a patch of the similarity of gradient magnitudes (Xue et al. 2014).

    Args:
        loss_weight: factor of the loss.
        dense_weight: factor of the patches' part within it; 0 is `OpinionLoss`.
        mix_tokens: probability that a batch passes through the transformer with a rectangle of each image's tokens
            exchanged (MixToken). The opinions of images are mixed by its area; patches keep theirs.
    """

    def __init__(self, loss_weight: float = 1.0, dense_weight: float = 0.5, mix_tokens: float = 0.0):
        super().__init__(loss_weight)
        if not 0 <= mix_tokens <= 1:
            raise ValueError(f"mix_tokens is a probability, from 0 to 1; given: {mix_tokens}")
        self.dense_weight = dense_weight
        self.mix_tokens = mix_tokens

    def drawn(self) -> list[float] | None:
        """The rectangle of this batch, for the model; None where nothing is mixed. torch's global numbers are drawn."""
        if self.mix_tokens and torch.rand(()).item() < self.mix_tokens:
            return torch.rand(4).tolist()
        return None

    def dense(
        self, logits: Tensor, patches: Tensor, shares: Tensor, local_shares: Tensor, mix: Sequence[float] | None = None
    ) -> dict[str, Tensor]:
        """The losses `quality`, of images, and `patches`.

        Args:
            logits: of the images, (B, L).
            patches: logits of their patches, (B, L, h, w).
            shares: opinions of the images, (B, L).
            local_shares: opinions of the patches, (B, L, h, w).
            mix: what `drawn` gave for this batch.
        """
        if mix is not None:
            size = tuple(patches.shape[2:])
            share = area_of(box_of(mix, *size), *size)
            shares = shares.lerp(shares.flip(0), share)
        return {"quality": self(logits, shares), "patches": self.dense_weight * self(patches, local_shares)}


def level_logits(opinion: Tensor) -> Tensor:
    """Logits (B, 5, ...) of five levels for opinions (B, ...) in [0, 1]: a Gaussian about each, as datasets without a
    spread are read."""
    levels = torch.arange(1, 6, device=opinion.device).view(-1, *[1] * (opinion.ndim - 1))
    return -0.5 * ((levels - 1 - 4 * opinion[:, None]) / SPREAD).square()


def local_opinions(opinion_B: Tensor, image_BCHW: Tensor, reference_BCHW: Tensor, size: tuple[int, int]) -> Tensor:
    """Opinions (B, h, w) of the patches of images, see `PatchOpinionLoss`.

    Args:
        opinion_B: of the images, in [0, 1].
        image_BCHW: the images, in [0, 1].
        reference_BCHW: what they should be.
        size: rows and columns of patches.
    """
    agreement = local_agreement(image_BCHW, reference_BCHW, size)
    return (opinion_B[:, None, None] + agreement - agreement.mean(dim=(1, 2), keepdim=True)).clamp(0, 1)


def local_agreement(image_BCHW: Tensor, reference_BCHW: Tensor, size: tuple[int, int]) -> Tensor:
    """How well patches agree with their reference, (B, h, w) in [0, 1]: q of `PatchOpinionLoss`."""
    similarity = F.adaptive_avg_pool2d(gradient_similarity(image_BCHW, reference_BCHW), size)
    return 1 - (1 - similarity[:, 0]).clamp(min=0).sqrt()


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
