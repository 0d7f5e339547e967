"""Against over-smoothing: the places of an image stay different from each other in deep transformers.

    train:
      diversity_opt: {type: DiversityLoss, layer: layers.3, first: layers.0, cosine: 1, contrastive: 1}

Gong et al. 2021, arXiv 2104.12753, section 4. Their third loss, a mosaic of images of which every token tells its own,
is `mix_tokens` of `PatchOpinionLoss`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from restore.errors import ImageError
from restore.losses.distillation import Layout, as_map
from restore.registry import LOSSES

__all__ = ["DiversityLoss", "contrast", "similarity"]


@LOSSES.add()
class DiversityLoss(nn.Module):
    """How alike the places of an image are in a layer of the network, and how well they are told apart by an early one.

    Args:
        layer: dotted name of the module whose features are to differ from place to place, usually the last of the body.
        first: dotted name of an early module, of as many channels; needed where `contrastive` is not 0.
        cosine: factor of the mean absolute cosine of the features of two places of an image (equation 3).
        contrastive: factor of the loss by which the features of a place in `layer` belong to those in `first`, which
            get no gradients, rather than to the mean of the other places (equation 4).
        loss_weight: factor of the whole.
        layout: of maps that the modules give; tokens (B, N, C) of a square are taken as they are.
        max_side: larger maps are averaged down to this many places along each side.
    """

    compares: ClassVar[str] = "layers"

    def __init__(
        self,
        layer: str,
        first: str | None = None,
        cosine: float = 1.0,
        contrastive: float = 0.0,
        loss_weight: float = 1.0,
        layout: Layout = "BCHW",
        max_side: int = 16,
    ):
        super().__init__()
        if contrastive and first is None:
            raise ValueError("contrastive compares with an early module: name it in first")
        if not (cosine or contrastive):
            raise ValueError("cosine and contrastive are both 0: give one of them")
        self.layer, self.first, self.cosine, self.contrastive = layer, first, cosine, contrastive
        self.loss_weight, self.layout, self.max_side = loss_weight, layout, max_side

    @property
    def layers(self) -> dict[str, str]:
        """The modules that are looked at, by the argument that names them."""
        return {"layer": self.layer} | ({"first": self.first} if self.first and self.contrastive else {})

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        """The loss, in float32.

        Args:
            features: what the modules gave, by their names.

        Raises:
            ImageError: one gives neither a map nor tokens of a square, or both are of different shapes.
        """
        last = self._places(features, self.layer)
        loss = last.new_zeros(())
        if self.cosine:
            loss = loss + self.cosine * similarity(last)
        if self.first is not None and self.contrastive:
            first = self._places(features, self.first).detach()
            if first.shape != last.shape:
                raise ImageError(
                    f"'{self.first}' gives {first.shape[2]} channels at {first.shape[1]} places and '{self.layer}' "
                    f"{last.shape[2]} at {last.shape[1]}; contrastive wants the same."
                )
            loss = loss + self.contrastive * contrast(first, last)
        return self.loss_weight * loss

    def _places(self, features: Mapping[str, Tensor], name: str) -> Tensor:
        """(B, N, C)."""
        map_BCHW = as_map(features[name], self.layout, name).float()
        size = (min(map_BCHW.shape[2], self.max_side), min(map_BCHW.shape[3], self.max_side))
        if map_BCHW.shape[2:] != size:
            map_BCHW = F.adaptive_avg_pool2d(map_BCHW, size)
        return map_BCHW.flatten(2).transpose(1, 2)


def similarity(x_BNC: Tensor) -> Tensor:
    """The mean absolute cosine of two places of an image: 1 where all are alike, 0 where all are orthogonal."""
    unit = F.normalize(x_BNC, dim=2)
    cosines = (unit @ unit.transpose(1, 2)).abs()
    places = x_BNC.shape[1]
    if places < 2:
        return cosines.new_zeros(())
    return (cosines.sum(dim=(1, 2)) - cosines.diagonal(dim1=1, dim2=2).sum(dim=1)).mean() / (places * (places - 1))


def contrast(first_BNC: Tensor, last_BNC: Tensor) -> Tensor:
    """The mean of -log(e^own / (e^own + e^others)); log 2 where places cannot be told apart.

    `own` is the product of a place early and late, `others` that with the mean of all other places late. Features are
    of unit length here; those of the paper have any.
    """
    first, last = F.normalize(first_BNC, dim=2), F.normalize(last_BNC, dim=2)
    places = last.shape[1]
    if places < 2:
        return last.new_full((), math.log(2))
    others = (last.sum(dim=1, keepdim=True) - last) / (places - 1)
    own, other = (first * last).sum(dim=2), (first * others).sum(dim=2)
    return F.softplus(other - own).mean()
