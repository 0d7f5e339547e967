"""Training images blended with each other, on the device: mixup, CutMix and CutBlur."""

from __future__ import annotations

import torch
from torch import Tensor

from restore.data.fields import Fields
from restore.data.loading import Batch
from restore.errors import OptionsError, Problem
from restore.layers.boxes import box_of
from restore.training.preparation import Preparation

__all__ = ["Mixing"]


class Mixing(Preparation):
    """What happens to a batch before the network sees it; random numbers are torch's global ones, on the CPU.

    Args:
        mixup: blend each pair with another one (Zhang et al. 2017, arXiv:1710.09412).
        mixup_beta: both parameters of the Beta distribution of the share.
        use_identity: leave every second batch, at random, as it is.
        cutmix: probability of putting a rectangle of another pair into each (Yun et al. 2019, arXiv:1905.04899).
        cutblur: probability of exchanging a rectangle between input and reference (Yoo et al. 2020, arXiv:2004.00448).
    """

    needs: Fields = {"lq": "image", "gt": "image"}  # noqa: RUF012

    def __init__(
        self,
        mixup: bool = False,
        mixup_beta: float = 1.2,
        use_identity: bool = False,
        cutmix: float = 0,
        cutblur: float = 0,
    ):
        self.mixup = mixup
        self.beta = torch.distributions.Beta(mixup_beta, mixup_beta)
        self.use_identity = use_identity
        self.cutmix = cutmix
        self.cutblur = cutblur

    def __call__(self, batch: Batch) -> Batch:
        """The batch with new `lq` and `gt`.

        Raises:
            OptionsError: CutBlur, where input and reference have different sizes.
        """
        lq, gt = batch["lq"], batch["gt"]
        if self.use_identity and _chance(0.5):
            return batch
        if self.mixup:
            share = float(self.beta.sample())
            order = torch.randperm(len(gt)).to(gt.device)
            lq, gt = lq.lerp(lq[order], 1 - share), gt.lerp(gt[order], 1 - share)
        if self.cutmix and _chance(self.cutmix):
            order = torch.randperm(len(gt)).to(gt.device)
            scale = gt.shape[-1] // lq.shape[-1]
            box = _box(*lq.shape[-2:])
            lq, gt = _pasted(lq, lq[order], box), _pasted(gt, gt[order], [side * scale for side in box])
        if self.cutblur and _chance(self.cutblur):
            if lq.shape != gt.shape:
                raise OptionsError(
                    [Problem("train.mixing_augs.cutblur", "needs input and reference of one size; here they differ.")]
                )
            box = _box(*lq.shape[-2:])
            lq = _pasted(lq, gt, box) if _chance(0.5) else _pasted(gt, lq, box)
        return {**batch, "lq": lq, "gt": gt}


def _chance(probability: float) -> bool:
    return float(torch.rand(())) < probability


def _box(height: int, width: int) -> list[int]:
    return box_of(torch.rand(4).tolist(), height, width)


def _pasted(into: Tensor, other: Tensor, box: list[int]) -> Tensor:
    top, bottom, left, right = box
    result = into.clone()
    result[..., top:bottom, left:right] = other[..., top:bottom, left:right]
    return result
