"""Losses between a network and its teacher: their answers, what lies in between, and how its parts relate.

    train:
      teacher: {model: swinir_light_x4}
      distill_opt: {type: SoftDistillationLoss, loss_weight: 1.0}

An answer is an image (B, C, H, W) in [0, 1], logits (B, L) of L levels of quality, or scores (B,) in [0, 1]. Features
are maps (B, C, H, W) or tokens (B, N, C) of a square. Each loss says in `asks` what of the teacher it compares with.

Sources: Hinton et al. 2015 (arXiv:1503.02531) and Touvron et al. 2020 (DeiT, arXiv:2012.12877, equations 2 and 3) for
answers, Romero et al. 2015 (FitNets, arXiv:1412.6550, equation 3) for features, Zhang et al. 2022 (MiniViT,
arXiv:2204.07154, section 3.3) for relations.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from restore.errors import ImageError
from restore.layers.exportable import resized_with_filter
from restore.registry import LOSSES, LossOption

__all__ = [
    "AnswerLoss",
    "DistillationLoss",
    "FeatureDistillationLoss",
    "FeatureLoss",
    "HardDistillationLoss",
    "RelationDistillationLoss",
    "SoftDistillationLoss",
    "as_map",
]

Layout = Literal["BCHW", "BHWC"]


class DistillationLoss(nn.Module, ABC):
    """Base of all losses between a network and its teacher.

    Args:
        loss_weight: factor of the loss.

    Attributes:
        asks: what of the teacher is compared: its `answer`, its answer `rounded` to 8 bits or whole levels, or a layer.
    """

    compares: ClassVar[str] = "teacher"
    asks: str = "answer"

    def __init__(self, loss_weight: float = 1.0):
        super().__init__()
        self.loss_weight = loss_weight

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """The loss, in float32; the teacher gets no gradients."""
        with torch.autocast(student.device.type, enabled=False):
            return self.loss_weight * self.distance(student.float(), teacher.detach().float())

    @abstractmethod
    def distance(self, student: Tensor, teacher: Tensor) -> Tensor:
        """How far the network is from its teacher, before the weight."""


@LOSSES.add()
class HardDistillationLoss(DistillationLoss):
    """The teacher's answer as a label, as sure as a person's: an 8-bit image, or the nearest level of quality.

    Images: the mean absolute difference. Logits: cross-entropy with the teacher's likeliest level. Scores: the mean
    squared difference to the nearest of five levels.
    """

    asks = "rounded"

    def distance(self, student: Tensor, teacher: Tensor) -> Tensor:
        """To the rounded answer."""
        if student.ndim == 4:
            return F.l1_loss(student, teacher)
        return F.cross_entropy(student, teacher.argmax(dim=1)) if student.ndim == 2 else F.mse_loss(student, teacher)


@LOSSES.add()
class SoftDistillationLoss(DistillationLoss):
    """The teacher's answer as it is, with its doubts.

    Images: the mean absolute difference. Logits: `temperature`^2 times the divergence of the network's softened shares
    from the teacher's. Scores: the mean squared difference.

    Args:
        loss_weight: factor of the loss.
        temperature: what logits are divided by before they become shares.
    """

    def __init__(self, loss_weight: float = 1.0, temperature: float = 1.0):
        super().__init__(loss_weight)
        if not temperature > 0:
            raise ValueError(f"temperature must be greater than 0; given: {temperature}")
        self.temperature = temperature

    def distance(self, student: Tensor, teacher: Tensor) -> Tensor:
        """To the answer itself."""
        if student.ndim == 4:
            return F.l1_loss(student, teacher)
        if student.ndim == 1:
            return F.mse_loss(student, teacher)
        student, teacher = ((logits / self.temperature).log_softmax(dim=1) for logits in (student, teacher))
        return self.temperature**2 * F.kl_div(student, teacher, reduction="batchmean", log_target=True)


@LOSSES.add()
class AnswerLoss(DistillationLoss):
    """Any loss between images, with the teacher's answer in place of the reference.

        lpips_opt: {type: AnswerLoss, loss: {type: LPIPSLoss, net: alex}, loss_weight: 0.5}

    Args:
        loss: the loss; one that gives several numbers counts with their sum.
        loss_weight: factor of the loss, beside the one of its own.
    """

    def __init__(self, loss: LossOption, loss_weight: float = 1.0):
        super().__init__(loss_weight)
        self.loss = LOSSES.build(loss, path="loss")

    def distance(self, student: Tensor, teacher: Tensor) -> Tensor:
        """To the answer, kept in [0, 1] as the published teachers' own tests do."""
        given = self.loss(student, teacher.clamp(0, 1))
        return torch.stack(list(given.values())).sum() if isinstance(given, Mapping) else given


class FeatureLoss(DistillationLoss):
    """Base of the losses that look inside: at what one module of the network and one of the teacher give.

    Args:
        student: dotted name of the module of the network (`conv_after_body`, `layers.3`).
        teacher: dotted name of the module of the teacher.
        loss_weight: factor of the loss.
        student_layout: of maps that the network's module gives.
        teacher_layout: of maps that the teacher's module gives.
    """

    def __init__(
        self,
        student: str,
        teacher: str,
        loss_weight: float = 1.0,
        student_layout: Layout = "BCHW",
        teacher_layout: Layout = "BCHW",
    ):
        super().__init__(loss_weight)
        self.student, self.teacher = student, teacher
        self.layouts = student_layout, teacher_layout
        self.asks = teacher

    def head(self, student_channels: int, teacher_channels: int) -> nn.Module | None:
        """What learns with the network to bring its features to the teacher's; None if nothing has to."""
        return None


@LOSSES.add()
class FeatureDistillationLoss(FeatureLoss):
    """Squared differences of features, relative to the teacher's mean square; 1 is as good as giving zeros.

    The network's maps go through a learned 1x1 convolution to the teacher's channels, and are resized to the teacher's
    size where it differs.
    """

    def head(self, student_channels: int, teacher_channels: int) -> nn.Module:
        """A convolution to the teacher's channels."""
        return nn.Conv2d(student_channels, teacher_channels, 1)

    def distance(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Relative squared error of (B, C, H, W)."""
        if student.shape[2:] != teacher.shape[2:]:
            student = resized_with_filter(student, teacher.shape[2:])
        return F.mse_loss(student, teacher) / teacher.square().mean().clamp_min(1e-12)


@LOSSES.add()
class RelationDistillationLoss(FeatureLoss):
    """How the parts of an image relate to each other in the network and in its teacher, whatever channels these have.

    For the normalised features x of all places of an image, the rows of softmax(x x^T / sqrt(C)); the divergence of the
    network's rows from the teacher's, averaged over rows and images. MiniViT compares queries, keys, values and hidden
    states so; here it is the features of any module.

    Args:
        student: dotted name of the module of the network.
        teacher: dotted name of the module of the teacher.
        loss_weight: factor of the loss.
        student_layout: of maps that the network's module gives.
        teacher_layout: of maps that the teacher's module gives.
        max_side: larger maps are averaged down to this many places along each side.
    """

    def __init__(
        self,
        student: str,
        teacher: str,
        loss_weight: float = 1.0,
        student_layout: Layout = "BCHW",
        teacher_layout: Layout = "BCHW",
        max_side: int = 16,
    ):
        super().__init__(student, teacher, loss_weight, student_layout, teacher_layout)
        self.max_side = max_side

    def distance(self, student: Tensor, teacher: Tensor) -> Tensor:
        """The mean divergence between rows."""
        sides = zip(student.shape[2:], teacher.shape[2:], strict=True)
        height, width = (min(*pair, self.max_side) for pair in sides)
        student, teacher = (_relations(F.adaptive_avg_pool2d(x_BCHW, (height, width))) for x_BCHW in (student, teacher))
        return F.kl_div(student, teacher, reduction="none", log_target=True).sum(dim=2).mean()


def as_map(features: Tensor, layout: Layout, name: str) -> Tensor:
    """Features as (B, C, H, W).

    Args:
        features: a map in its layout, or tokens (B, N, C) of a square.
        layout: of maps.
        name: of the module that gave them, for messages.

    Raises:
        ImageError: they are neither.
    """
    if features.ndim == 4:
        return features if layout == "BCHW" else features.permute(0, 3, 1, 2)
    side = math.isqrt(features.shape[1]) if features.ndim == 3 else 0
    if not side or side**2 != features.shape[1]:
        raise ImageError(
            f"'{name}' gives {tuple(features.shape)}; expected: maps (B, C, H, W) or (B, H, W, C), or the tokens "
            "(B, N, C) of a square patch, without class tokens."
        )
    return features.transpose(1, 2).unflatten(2, (side, side))


def _relations(x_BCHW: Tensor) -> Tensor:
    """Logarithms of the rows of softmax(x x^T / sqrt(C)), (B, N, N)."""
    x_BNC = x_BCHW.flatten(2).transpose(1, 2)
    x_BNC = F.layer_norm(x_BNC, x_BNC.shape[2:])
    return (x_BNC @ x_BNC.transpose(1, 2) / math.sqrt(x_BNC.shape[2])).log_softmax(dim=2)
