"""The contrastive loss of IPT's pre-training: patches of one image are alike, patches of two images are not.

Chen et al. 2021, "Pre-Trained Image Processing Transformer", arXiv 2012.00364, section 3.3. It is added to the
reconstruction loss with a weight of 0.1.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restore.registry import LOSSES

__all__ = ["PatchContrastiveLoss", "patch_contrastive_loss"]


def patch_contrastive_loss(features_BND: Tensor) -> Tensor:
    """How much less alike the patches of an image are to each other than to the patches of other images.

    For patches a, c of image j: -log(exp(d(a_j, c_j)) / sum over images k other than j of exp(d(a_j, c_k))), where d is
    the cosine; the mean over j, a and c. Memory grows with (B * N)^2.

    Args:
        features_BND: decoder tokens of B images with N patches each, as `IPT.forward(..., return_features=True)`
            gives them.

    Raises:
        ValueError: fewer than two images: there is nothing to tell apart.
    """
    B = features_BND.shape[0]
    if B < 2:
        raise ValueError(f"the contrastive loss needs at least two images in a batch, given {B}")
    unit = F.normalize(features_BND.float(), dim=-1)
    cosine_jack = torch.einsum("jad,kcd->jack", unit, unit)
    same = torch.eye(B, dtype=torch.bool, device=unit.device)[:, None, None, :]
    others = cosine_jack.masked_fill(same, -torch.inf).logsumexp(dim=-1)
    own = cosine_jack.masked_select(same).view_as(others)
    return (others - own).mean()


@LOSSES.add()
class PatchContrastiveLoss(nn.Module):
    """`patch_contrastive_loss` with a weight.

    Args:
        loss_weight: factor of the loss; IPT trains with 0.1.
    """

    def __init__(self, loss_weight: float = 1.0):
        super().__init__()
        self.loss_weight = loss_weight

    def forward(self, features_BND: Tensor) -> Tensor:
        """The loss of the patch features of a batch of at least two images."""
        return self.loss_weight * patch_contrastive_loss(features_BND)
