"""LPIPS and DISTS: distances between the feature maps of ImageNet networks.

LPIPS v0.1: Zhang et al. 2018, arXiv 1801.03924; agrees with github.com/richzhang/PerceptualSimilarity (BSD-2-Clause).
DISTS: Ding et al. 2020, arXiv 2004.07728; agrees with github.com/dingkeyan93/DISTS (MIT). The code is our own, the
learned numbers are the published ones. Both have gradients, so they serve as losses too.
"""

from __future__ import annotations

import functools
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import nn

from restore.metrics.backbones import Features, load_backbone, stored
from restore.metrics.inputs import Bits, Border, Images, Preparation, White, as_pair, as_score
from restore.metrics.registration import metric

__all__ = ["DISTS", "LPIPS", "dists", "lpips"]

Net = Literal["alex", "squeeze", "vgg"]

_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)
_LPIPS_MEAN = (-0.030, -0.088, -0.188)  # of values in [-1, 1]
_LPIPS_STD = (0.458, 0.448, 0.450)


class LPIPS(nn.Module):
    """Learned perceptual patch similarity v0.1 for RGB (B, 3, H, W) in [0, 1]; 0 for identical images.

    Args:
        net: which backbone the linear heads belong to.
        features: the feature maps of that backbone.
    """

    def __init__(self, net: Net, features: Features):
        super().__init__()
        self.features = features
        heads = stored("lpips")
        self.heads = nn.ParameterList(
            nn.Parameter(torch.from_numpy(heads[f"{net}.{layer}"]), requires_grad=False)
            for layer in range(len(features.taps))
        )
        self.normalise = Normalise(_LPIPS_MEAN, _LPIPS_STD)

    def forward(self, x_BCHW: torch.Tensor, y_BCHW: torch.Tensor) -> torch.Tensor:
        """The distance of each pair, (B,)."""
        maps = self.features(self.normalise(torch.cat([x_BCHW, y_BCHW]) * 2 - 1))
        distances = (_head_distance(map_2BCHW, head) for map_2BCHW, head in zip(maps, self.heads, strict=True))
        return cast(torch.Tensor, sum(distances))


def _head_distance(map_2BCHW: torch.Tensor, head_C: torch.Tensor) -> torch.Tensor:
    lengths = map_2BCHW.square().sum(dim=1, keepdim=True).add(1e-20).sqrt()
    x_BCHW, y_BCHW = (map_2BCHW / lengths.clamp(min=1e-10)).chunk(2)
    return torch.einsum("bchw,c->bhw", (x_BCHW - y_BCHW).square(), head_C).mean(dim=(1, 2))


class DISTS(nn.Module):
    """Deep image structure and texture similarity for RGB (B, 3, H, W) in [0, 1]; 0 for identical images.

    Args:
        features: the feature maps of VGG-16; its max pooling is replaced by the L2 pooling of the paper.
    """

    alpha: torch.Tensor
    beta: torch.Tensor

    def __init__(self, features: Features):
        super().__init__()
        layers = [L2Pool() if isinstance(layer, nn.MaxPool2d) else layer for layer in features.layers]
        self.layers, self.taps = nn.Sequential(*layers), features.taps
        alpha, beta = (torch.from_numpy(stored("dists")[key]) for key in ("alpha", "beta"))
        self.register_buffer("alpha", alpha / (alpha.sum() + beta.sum()))
        self.register_buffer("beta", beta / (alpha.sum() + beta.sum()))
        self.normalise = Normalise(_IMAGENET_MEAN, _IMAGENET_STD)

    def forward(self, x_BCHW: torch.Tensor, y_BCHW: torch.Tensor) -> torch.Tensor:
        """The distance of each pair, (B,)."""
        images = torch.cat([x_BCHW, y_BCHW])
        maps, hidden = [images], self.normalise(images)
        for index, layer in enumerate(self.layers):
            hidden = layer(hidden)
            if index in self.taps:
                maps.append(hidden)
        terms = [_texture_and_structure(map_2BCHW) for map_2BCHW in maps]
        texture_BC, structure_BC = (torch.cat(term, dim=1) for term in zip(*terms, strict=True))
        return 1 - (self.alpha * texture_BC + self.beta * structure_BC).sum(dim=1)


def _texture_and_structure(map_2BCHW: torch.Tensor, eps: float = 1e-6) -> tuple[torch.Tensor, torch.Tensor]:
    """The similarities of means and of correlations, (B, C) each."""
    x_BCN, y_BCN = map_2BCHW.flatten(2).chunk(2)
    x_mean, y_mean = x_BCN.mean(dim=2), y_BCN.mean(dim=2)
    x_BCN, y_BCN = x_BCN - x_mean[..., None], y_BCN - y_mean[..., None]
    texture = (2 * x_mean * y_mean + eps) / (x_mean.square() + y_mean.square() + eps)
    variances = x_BCN.square().mean(dim=2) + y_BCN.square().mean(dim=2)
    return texture, (2 * (x_BCN * y_BCN).mean(dim=2) + eps) / (variances + eps)


class L2Pool(nn.Module):
    """Pooling by the root of a Hann-weighted mean of squares: 3x3, stride 2, without aliasing."""

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """Maps of half the size, rounded up."""
        channels = x_BCHW.shape[1]
        taps = x_BCHW.new_tensor([0.25, 0.5, 0.25])
        kernel = torch.outer(taps, taps).expand(channels, 1, 3, 3)
        return (F.conv2d(x_BCHW.square(), kernel, stride=2, padding=1, groups=channels) + 1e-12).sqrt()


class Normalise(nn.Module):
    """Subtract a mean and divide by a deviation for each channel."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]):
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """The normalised images."""
        return (x_BCHW - self.mean) / self.std


@metric("lpips", higher_is_better=False)
def lpips(
    restored: Images,
    reference: Images,
    *,
    net: Net = "alex",
    border_px: Border = 0,
    bits: Bits | None = None,
    data_range: White = 1.0,
    weights: str | None = None,
) -> float | torch.Tensor:
    """LPIPS v0.1; grey images count as R = G = B.

    Args:
        restored: what is judged.
        reference: what it should be.
        net: backbone: "alex" (the usual one in tables), "squeeze" or "vgg" (the usual one for losses).
        border_px: pixels cut off at every side.
        bits: quantise the images to this many bits first.
        data_range: what white is in float images.
        weights: file or folder of the backbone's weights; see `restore.metrics.backbones`.

    Raises:
        MissingError: the backbone's weights are not here and cannot be downloaded; the message says what to do.
        ImageError: the images differ in size, or are too small for the backbone.
    """
    pair = _float_pair(restored, reference, Preparation(border_px, bits=bits, data_range=data_range))
    return as_score(_load_lpips(net, weights, pair[0].device)(*pair), restored)


@metric("dists", higher_is_better=False)
def dists(
    restored: Images,
    reference: Images,
    *,
    border_px: Border = 0,
    bits: Bits | None = None,
    data_range: White = 1.0,
    weights: str | None = None,
) -> float | torch.Tensor:
    """DISTS at the size of the images (the paper's figures are of images reduced to 256 px first).

    The arguments are those of `lpips`; the backbone is VGG-16.

    Raises:
        MissingError: the backbone's weights are not here and cannot be downloaded; the message says what to do.
        ImageError: the images differ in size.
    """
    pair = _float_pair(restored, reference, Preparation(border_px, bits=bits, data_range=data_range))
    return as_score(_load_dists(weights, pair[0].device)(*pair), restored)


def _float_pair(restored: Images, reference: Images, prepare: Preparation) -> list[torch.Tensor]:
    return [x_BCHW.float().expand(-1, 3, -1, -1) for x_BCHW in as_pair(restored, reference, prepare)]


@functools.lru_cache(maxsize=8)
def _load_lpips(net: Net, weights: str | None, device: torch.device) -> LPIPS:
    return LPIPS(net, load_backbone(net, weights, device)).to(device)


@functools.lru_cache(maxsize=2)
def _load_dists(weights: str | None, device: torch.device) -> DISTS:
    return DISTS(load_backbone("vgg", weights, device)).to(device)
