"""The contrastive loss with which IPT is pre-trained (Chen et al. 2021, arXiv:2012.00364, equation 7)."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from restore.registry import LOSSES

__all__ = ["PatchContrastiveLoss"]


@LOSSES.add()
class PatchContrastiveLoss(nn.Module):
    """Patches of one image attract each other; the same patch of other images repels.

    For patches j and l of image i: -log(exp(c(f_ij, f_il)) / sum over k != i of exp(c(f_ij, f_kl))), with cosines c;
    the mean over i, j and l.

    Args:
        loss_weight: factor of the loss; IPT trains with 0.1.
    """

    compares: ClassVar[str] = "patches"

    def __init__(self, loss_weight: float = 1.0):
        super().__init__()
        self.loss_weight = loss_weight

    def forward(self, features_BNC: Tensor) -> Tensor:
        """The loss of the patch features of a batch.

        Args:
            features_BNC: B images (at least two), N patches each, C numbers for each patch.
        """
        if len(features_BNC) < 2:
            raise ValueError("the contrastive loss compares images: it needs at least two images in a batch.")
        features_BNC = F.normalize(features_BNC.float(), dim=-1)
        cosines_ijkl = torch.einsum("ijc,klc->ijkl", features_BNC, features_BNC)
        own_ijl = torch.einsum("ijil->ijl", cosines_ijkl)
        is_own = torch.eye(len(features_BNC), dtype=torch.bool, device=features_BNC.device)[:, None, :, None]
        others_ijl = cosines_ijkl.masked_fill(is_own, float("-inf")).logsumexp(dim=2)
        return self.loss_weight * (others_ijl - own_ijl).mean()
