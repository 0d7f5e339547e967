"""Every image is a class of its own: the loss of instance discrimination."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from restore.layers.boxes import area_of
from restore.registry import LOSSES

__all__ = ["InstanceLoss"]


@LOSSES.add()
class InstanceLoss(nn.Module):
    """Cross-entropy with the number of the image, smoothed, and mixed where images are (Cao et al. 2022, IDMM).

    Args:
        loss_weight: factor of the loss.
        smoothing: share of a label that is spread over all images (Szegedy et al. 2015, arXiv 1512.00567).
        cutmix: probability that a batch has a rectangle of each image exchanged with another one's, labels by area.
        local_crops: how many further crops of each image are shown, which have its label.
        local_share: side of these, of that of the image.
    """

    compares: ClassVar[str] = "instances"

    def __init__(
        self,
        loss_weight: float = 1.0,
        smoothing: float = 0.1,
        cutmix: float = 0.5,
        local_crops: int = 2,
        local_share: float = 0.5,
    ):
        super().__init__()
        for name, value in (("smoothing", smoothing), ("cutmix", cutmix), ("local_share", local_share)):
            if not 0 <= value <= 1:
                raise ValueError(f"{name} is from 0 to 1; given: {value}")
        if local_crops < 0 or not local_share:
            raise ValueError(f"local_crops is 0 or more, of a share above 0; given: {local_crops} of {local_share}")
        self.loss_weight, self.smoothing, self.cutmix = loss_weight, smoothing, cutmix
        self.local_crops, self.local_share = local_crops, local_share

    def forward(self, logits_BN: Tensor, labels_BN: Tensor) -> Tensor:
        """The loss; it is at least the entropy of the labels, which sum to one."""
        return -self.loss_weight * (labels_BN * logits_BN.log_softmax(dim=1)).sum(dim=1).mean()

    def labels(
        self, instance_B: Tensor, num_instances: int, box: list[int] | None = None, size: tuple[int, int] = (1, 1)
    ) -> Tensor:
        """(B, num_instances): smoothed labels, mixed with those of the batch in reverse order.

        Args:
            instance_B: numbers of the images.
            num_instances: how many there are.
            box: the rectangle that was exchanged, of images of `size`; None: nothing was.
            size: height and width of the images.
        """
        hard = torch.nn.functional.one_hot(instance_B, num_instances).float()
        if box is not None:
            hard = hard.lerp(hard.flip(0), area_of(box, *size))
        return hard * (1 - self.smoothing) + self.smoothing / num_instances
