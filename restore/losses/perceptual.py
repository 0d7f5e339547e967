"""Losses between features of pretrained networks: VGG (content and style), LPIPS and DISTS."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from restore.losses.pixel import CharbonnierLoss
from restore.losses.vgg import VggFeatures
from restore.metrics.backbones import load_backbone
from restore.metrics.perceptual import Net, dists, lpips
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
        padding: of the first convolution; "replicate" makes less of borders.
        float32: whether VGG computes in float32 in a training of mixed precision, too.
    """

    def __init__(
        self,
        layer_weights: Mapping[str, float],
        vgg_type: str = "vgg19",
        use_input_norm: bool = True,
        range_norm: bool = False,
        perceptual_weight: float = 1.0,
        style_weight: float = 0.0,
        criterion: Literal["l1", "l2", "fro", "charbonnier"] = "l1",
        weights: str | None = None,
        padding: Literal["zeros", "replicate"] = "zeros",
        float32: bool = False,
    ):
        super().__init__()
        self.layer_weights, self.float32 = dict(layer_weights), float32
        self.perceptual_weight = perceptual_weight
        self.style_weight = style_weight
        distances: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
            "l1": F.l1_loss,
            "l2": F.mse_loss,
            "fro": torch.dist,
            "charbonnier": CharbonnierLoss(),
        }
        self.distance = distances[criterion]
        self.vgg = VggFeatures(
            layer_weights, vgg_type, use_input_norm=use_input_norm, range_norm=range_norm, weights=weights
        )
        if padding == "replicate":
            self.vgg.pad_by_repeating()

    def forward(self, restored: Tensor, reference: Tensor) -> dict[str, Tensor]:
        """`{"percep": ..., "style": ...}`, without those of weight 0."""
        kind = restored.device.type
        with torch.autocast(kind, enabled=torch.is_autocast_enabled(kind) and not self.float32):
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
        terms = (weight * self.distance(ours[name], theirs[name]) for name, weight in self.layer_weights.items())
        return cast(Tensor, sum(terms))


class _MetricLoss(nn.Module, ABC):
    """A distance of `restore.metrics` as a loss; its network is frozen and kept out of the state dict.

    Args:
        loss_weight: factor of the loss.
        weights: file or folder of the backbone's weights; by default they are looked for and downloaded as for the
            metric.

    Raises:
        MissingError: these weights are neither on this machine nor can they be downloaded.
    """

    net: Net = "vgg"

    def __init__(self, loss_weight: float = 1.0, weights: str | None = None):
        super().__init__()
        self.loss_weight = loss_weight
        self.weights = weights
        load_backbone(self.net, weights, torch.device("cpu"))  # so that a lack of them is found before training begins

    def forward(self, restored: Tensor, reference: Tensor) -> Tensor:
        """The mean over the batch; images are clamped to [0, 1], grey ones count as R = G = B."""
        return self.loss_weight * self.distance(restored.clamp(0, 1), reference).mean()

    @abstractmethod
    def distance(self, restored: Tensor, reference: Tensor) -> Tensor:
        """The distance of each pair, (B,)."""


@LOSSES.add("LPIPSLoss", "lpips")
class LPIPSLoss(_MetricLoss):
    """Learned perceptual distance (Zhang et al. 2018, arXiv:1801.03924).

    Args:
        loss_weight: factor of the loss.
        weights: as for every loss of this kind.
        net: backbone; "vgg" is the usual one for losses.
    """

    def __init__(self, loss_weight: float = 1.0, weights: str | None = None, net: Net = "vgg"):
        self.net = net
        super().__init__(loss_weight, weights)

    def distance(self, restored: Tensor, reference: Tensor) -> Tensor:
        """LPIPS of each pair, (B,)."""
        return cast(Tensor, lpips(restored, reference, net=self.net, weights=self.weights))


@LOSSES.add("DISTSLoss", "dists")
class DISTSLoss(_MetricLoss):
    """Structure and texture distance (Ding et al. 2020, arXiv:2004.07728)."""

    def distance(self, restored: Tensor, reference: Tensor) -> Tensor:
        """DISTS of each pair, (B,)."""
        return cast(Tensor, dists(restored, reference, weights=self.weights))


def _gram(maps_BCHW: Tensor) -> Tensor:
    maps_BCN = maps_BCHW.flatten(2)
    return maps_BCN @ maps_BCN.transpose(1, 2) / maps_BCN[0].numel()
