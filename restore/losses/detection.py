"""Losses of sets of boxes: each wanted box is given to one prediction, and the others are to say that there is nothing.

DETR, Carion et al. 2020, arXiv 2005.12872, equations 1 and 2. Official code: github.com/facebookresearch/detr
(Apache-2.0). Checked against the official code.

Shape legend: B images, Q predictions of each, K kinds, N wanted boxes of an image. Boxes are centre x, y, width and
height, in shares of the image's sides.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import nn

from restore.layers.arguments import require_positive
from restore.layers.box_overlaps import generalised_iou, to_corners
from restore.registry import LOSSES

__all__ = ["Predictions", "SetLoss", "Wanted"]


class Predictions(NamedTuple):
    """Logits (B, Q, K), or (B, Q, K + 1) with "nothing" last for `softmax`, and boxes (B, Q, 4)."""

    logits: torch.Tensor
    boxes: torch.Tensor


class Wanted(NamedTuple):
    """Of one image: the number of its kind, (N,), and the place, (N, 4), of each box; N may be 0."""

    kinds: torch.Tensor
    boxes: torch.Tensor


class Matches(NamedTuple):
    """Which prediction of which image has which wanted box: indices of one length."""

    image: torch.Tensor
    prediction: torch.Tensor
    kinds: torch.Tensor
    boxes: torch.Tensor


@LOSSES.add()
class SetLoss(nn.Module):
    """Class, L1 and generalised-IoU losses after a one-to-one matching that makes their weighted sum the smallest.

    L1 and 1 - GIoU are sums over the matched boxes, divided by the number of wanted boxes in the batch. The class loss
    is either of DETR, the mean of cross-entropies in which "nothing" counts `no_object`; or of Deformable DETR
    (Zhu et al. 2020, arXiv 2010.04159), sigmoid focal losses (Lin et al. 2017, arXiv 1708.02002) over the number of
    wanted boxes.

    Args:
        classification: "softmax" (K + 1 logits, "nothing" last) or "focal" (K logits).
        class_weight: of the class loss, and of the cost of a kind in the matching.
        box_weight: of L1, in both.
        giou_weight: of the generalised IoU, in both.
        no_object: weight of "nothing" in the cross-entropy.
        alpha: of the focal loss: the weight of what is there, against 1 - alpha of what is not.
        gamma: of the focal loss: how much less what is right already counts.
        loss_weight: of all of it.
    """

    compares = "boxes"

    def __init__(
        self,
        classification: Literal["softmax", "focal"] = "focal",
        class_weight: float = 2.0,
        box_weight: float = 5.0,
        giou_weight: float = 2.0,
        no_object: float = 0.1,
        alpha: float = 0.25,
        gamma: float = 2.0,
        loss_weight: float = 1.0,
    ):
        super().__init__()
        self.classification, self.no_object = classification, no_object
        self.class_weight, self.box_weight, self.giou_weight = class_weight, box_weight, giou_weight
        self.alpha, self.gamma, self.loss_weight = alpha, gamma, loss_weight

    def forward(
        self, predictions: Predictions, wanted: Sequence[Wanted], *, copies: int = 1
    ) -> dict[str, torch.Tensor]:
        """The weighted losses `class`, `box` and `giou`, scalars.

        Args:
            predictions: of a batch.
            wanted: of each of its images.
            copies: how many predictions each wanted box is given to (H-DETR, Jia et al. 2022, arXiv 2207.13080).
        """
        parts = self.parts(predictions, wanted, copies=copies)
        weights = {"class": self.class_weight, "box": self.box_weight, "giou": self.giou_weight}
        return {name: self.loss_weight * weights[name] * part for name, part in parts.items()}

    def parts(self, predictions: Predictions, wanted: Sequence[Wanted], *, copies: int = 1) -> dict[str, torch.Tensor]:
        """The same without their weights."""
        require_positive(copies=copies)
        predictions = Predictions(*(each.float() for each in predictions))
        matches = self._matches(predictions, wanted, copies)
        number = max(copies * sum(len(each.kinds) for each in wanted), 1)
        found = predictions.boxes[matches.image, matches.prediction]
        giou = generalised_iou(to_corners(found), to_corners(matches.boxes))
        return {
            "class": self._class_loss(predictions.logits, matches, number),
            "box": (found - matches.boxes).abs().sum() / number,
            "giou": (1 - giou).sum() / number,
        }

    @torch.no_grad()
    def match(self, predictions: Predictions, wanted: Sequence[Wanted]) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """For each image the indices of predictions and of the wanted boxes that they are given, of one length."""
        costs = self._costs(predictions, wanted)
        pairs = [linear_sum_assignment(cost_QN.cpu()) for cost_QN in costs]
        return [(torch.as_tensor(rows), torch.as_tensor(columns)) for rows, columns in pairs]

    def _costs(self, predictions: Predictions, wanted: Sequence[Wanted]) -> list[torch.Tensor]:
        """(Q, N) for each image: what it costs to give a wanted box to a prediction."""
        if self.classification == "softmax":
            of_kinds = -predictions.logits.softmax(dim=-1)
        else:
            of_kinds = self._focal(predictions.logits, True) - self._focal(predictions.logits, False)
        costs = []
        for kinds_QK, boxes_Q4, (kinds_N, boxes_N4) in zip(of_kinds, predictions.boxes, wanted, strict=True):
            boxes_N4 = boxes_N4.to(boxes_Q4)
            giou = generalised_iou(to_corners(boxes_Q4)[:, None], to_corners(boxes_N4)[None])
            distance = torch.cdist(boxes_Q4, boxes_N4, p=1)
            cost = self.class_weight * kinds_QK[:, kinds_N] + self.box_weight * distance - self.giou_weight * giou
            costs.append(cost.nan_to_num(nan=1e6, posinf=1e6, neginf=-1e6))
        return costs

    def _matches(self, predictions: Predictions, wanted: Sequence[Wanted], copies: int) -> Matches:
        """The matching of all images, in one row; each wanted box stands in it `copies` times."""
        wanted = [Wanted(each.kinds.repeat(copies), each.boxes.repeat(copies, 1)) for each in wanted]
        pairs = self.match(predictions, wanted)
        device = predictions.boxes.device
        image = torch.cat([torch.full((len(rows),), index) for index, (rows, _) in enumerate(pairs)])
        kinds = torch.cat([each.kinds.cpu()[columns] for each, (_, columns) in zip(wanted, pairs, strict=True)])
        boxes = torch.cat([each.boxes.cpu()[columns] for each, (_, columns) in zip(wanted, pairs, strict=True)])
        rows = torch.cat([rows for rows, _ in pairs])
        return Matches(image.to(device), rows.to(device), kinds.to(device), boxes.to(predictions.boxes))

    def _class_loss(self, logits_BQK: torch.Tensor, matches: Matches, number: int) -> torch.Tensor:
        if self.classification == "softmax":
            nothing = logits_BQK.shape[-1] - 1
            target = torch.full(logits_BQK.shape[:2], nothing, device=logits_BQK.device)
            target[matches.image, matches.prediction] = matches.kinds
            weight = torch.ones(nothing + 1, device=logits_BQK.device)
            weight[nothing] = self.no_object
            return F.cross_entropy(logits_BQK.flatten(0, 1), target.flatten(), weight)
        there = torch.zeros_like(logits_BQK, dtype=torch.bool)
        there[matches.image, matches.prediction, matches.kinds] = True
        losses = torch.where(there, self._focal(logits_BQK, True), self._focal(logits_BQK, False))
        return losses.sum() / number

    def _focal(self, logits: torch.Tensor, there: bool) -> torch.Tensor:
        """The focal loss of every logit if its kind is there, or if it is not."""
        signed = logits if there else -logits
        share = self.alpha if there else 1 - self.alpha
        return -share * torch.sigmoid(-signed) ** self.gamma * F.logsigmoid(signed)
