"""Losses between features of pretrained networks: VGG (content and style), and LPIPS and DISTS through pyiqa."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from restore.errors import MissingError
from restore.losses.vgg import VggFeatures
from restore.registry import LOSSES

__all__ = ["DISTSLoss", "LPIPSLoss", "PerceptualLoss"]


@LOSSES.add()
class PerceptualLoss(nn.Module):
    """Distances of VGG features (content) and of their Gram matrices (style), weighted by layer.

    Args:
        layer_weights: weight of each layer, such as `{conv5_4: 1}`; names mean the map before the activation.
        vgg_type: vgg11, vgg13, vgg16 or vgg19.
        use_input_norm: normalise the input as ImageNet training did.
        range_norm: the input is in [-1, 1].
        perceptual_weight: factor of the content loss, logged as `l_percep`; 0 leaves it out.
        style_weight: factor of the style loss, logged as `l_style`; 0 leaves it out.
        criterion: distance of two maps.
        weights: file of VGG's weights; by default torchvision's.
    """

    def __init__(
        self,
        layer_weights: Mapping[str, float],
        vgg_type: str = "vgg19",
        use_input_norm: bool = True,
        range_norm: bool = False,
        perceptual_weight: float = 1.0,
        style_weight: float = 0.0,
        criterion: Literal["l1", "l2", "fro"] = "l1",
        weights: str | None = None,
    ):
        super().__init__()
        self.layer_weights = dict(layer_weights)
        self.perceptual_weight = perceptual_weight
        self.style_weight = style_weight
        self.distance = {"l1": F.l1_loss, "l2": F.mse_loss, "fro": torch.dist}[criterion]
        self.vgg = VggFeatures(
            layer_weights, vgg_type, use_input_norm=use_input_norm, range_norm=range_norm, weights=weights
        )

    def forward(self, restored: Tensor, reference: Tensor) -> dict[str, Tensor]:
        """`{"percep": ..., "style": ...}`, without those of weight 0."""
        ours = self.vgg(restored)
        with torch.no_grad():
            theirs = self.vgg(reference)
        losses = {}
        if self.perceptual_weight:
            losses["percep"] = self.perceptual_weight * self._sum(ours, theirs)
        if self.style_weight:
            grams = [{name: _gram(maps) for name, maps in both.items()} for both in (ours, theirs)]
            losses["style"] = self.style_weight * self._sum(*grams)
        return losses

    def _sum(self, ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> Tensor:
        return sum(weight * self.distance(ours[name], theirs[name]) for name, weight in self.layer_weights.items())


class _LibraryLoss(nn.Module):
    """A metric of pyiqa as a loss; its network is frozen and kept out of the state dict."""

    metric = ""

    def __init__(self, loss_weight: float = 1.0):
        super().__init__()
        import pyiqa

        self.loss_weight = loss_weight
        try:
            model = pyiqa.create_metric(self.metric, as_loss=True, device=torch.device("cpu"))
        except OSError as error:
            raise MissingError(f"the weights of {self.metric} cannot be had: {error}") from error
        self.model = model.requires_grad_(False)

    def forward(self, restored: Tensor, reference: Tensor) -> Tensor:
        """The loss; images are clamped to [0, 1]."""
        return self.loss_weight * self.model(restored.clamp(0, 1), reference)


@LOSSES.add()
class LPIPSLoss(_LibraryLoss):
    """Learned perceptual distance on VGG (Zhang et al. 2018, arXiv:1801.03924)."""

    metric = "lpips-vgg"


@LOSSES.add()
class DISTSLoss(_LibraryLoss):
    """Structure and texture distance (Ding et al. 2020, arXiv:2004.07728)."""

    metric = "dists"


def _gram(maps_BCHW: Tensor) -> Tensor:
    maps_BCN = maps_BCHW.flatten(2)
    return maps_BCN @ maps_BCN.transpose(1, 2) / maps_BCN[0].numel()
