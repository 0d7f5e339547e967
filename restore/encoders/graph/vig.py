"""ViG and Pyramid ViG: patches are nodes of a graph whose edges lead to what is most alike, anew in every block.

Han et al. 2022, arXiv 2206.00272. Official code: github.com/huawei-noah/Efficient-AI-Backbones (vig_pytorch,
Apache-2.0), whose keys are kept. Here images may have any size: positions are resampled bicubically, and where there
are fewer positions than neighbours, all are taken; the published code takes images of 224 px.

B batch, H x W image, C channels, N positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from restore.encoders.base import Normalisation
from restore.encoders.features import Features
from restore.encoders.isotropic import TokenEncoder
from restore.encoders.staged import StagedEncoder, split_depths
from restore.layers.activations import Activation, activation_layer
from restore.layers.block import MetaFormerBlock
from restore.layers.exportable import is_of_size
from restore.layers.ffn import BatchNormMLP
from restore.layers.mixers.graph.convolutions import GraphConvolution, GraphNorm
from restore.layers.mixers.graph.neighbours import NeighbourGraph
from restore.layers.tokens import Tokens
from restore.registry import ENCODERS

__all__ = ["PyramidViG", "ViG"]

_RENAMED = {
    "mixer.fc1.bn.": "0.fc1.1.",
    "mixer.fc1.": "0.fc1.0.",
    "mixer.nn.": "0.graph_conv.gconv.nn.",
    "mixer.nn1.": "0.graph_conv.gconv.nn1.",
    "mixer.nn2.": "0.graph_conv.gconv.nn2.",
    "mixer.eps": "0.graph_conv.gconv.eps",
    "mixer.fc2.bn.": "0.fc2.1.",
    "mixer.fc2.": "0.fc2.0.",
    "mixer.relative_pos": "0.relative_pos",
    "ffn.fc1.bn.": "1.fc1.1.",
    "ffn.fc1.": "1.fc1.0.",
    "ffn.activation.": "1.act.",
    "ffn.fc2.bn.": "1.fc2.1.",
    "ffn.fc2.": "1.fc2.0.",
}
_SIZES = {
    "tiny": {"embed_dim": 192, "depth": 12},
    "small": {"embed_dim": 320, "depth": 16},
    "base": {"embed_dim": 640, "depth": 16},
}
_PYRAMIDS = {
    "tiny": {"dims": (48, 96, 240, 384), "depths": (2, 2, 6, 2)},
    "small": {"dims": (80, 160, 400, 640), "depths": (2, 2, 6, 2)},
    "medium": {"dims": (96, 192, 384, 768), "depths": (2, 2, 16, 2)},
    "base": {"dims": (128, 256, 512, 1024), "depths": (2, 2, 18, 2)},
}


class _Graph:
    """Makes blocks and stems of one kind."""

    def __init__(self, conv: GraphConvolution, activation: Activation, norm: GraphNorm, bias: bool, stochastic: float):
        self.activation: Activation = activation
        self.of_mixer: dict[str, Any] = {"conv": conv, "norm": norm, "bias": bias, "stochastic": stochastic}

    def block(self, dim: int, mlp_ratio: float, drop_path: float, **neighbours: Any) -> MetaFormerBlock:
        """`neighbours`: what a `NeighbourGraph` is told of them and of its map."""
        mixer = NeighbourGraph(dim, activation=self.activation, **neighbours, **self.of_mixer)
        feed_forward = BatchNormMLP(dim, mlp_ratio, activation=self.activation)
        return MetaFormerBlock(dim, mixer, feed_forward, norm="none", drop_path=drop_path)


def _stem(in_chans: int, widths: Sequence[int], activation: Activation) -> nn.Sequential:
    """3x3 convolutions with batch norms, each halving the map, and one more that does not; activations between them."""
    layers: list[nn.Module] = []
    for before, after in zip((in_chans, *widths[:-1]), widths, strict=True):
        layers += [nn.Conv2d(before, after, 3, 2, 1), nn.BatchNorm2d(after), activation_layer(activation)]
    return nn.Sequential(*layers, nn.Conv2d(widths[-1], widths[-1], 3, 1, 1), nn.BatchNorm2d(widths[-1]))


def _published_block(rest: str) -> str:
    own = next(name for name in _RENAMED if rest.startswith(name))
    return f"{_RENAMED[own]}{rest.removeprefix(own)}"


def _with_positions(x_BCHW: torch.Tensor, table_1CHW: torch.Tensor) -> torch.Tensor:
    if not is_of_size(table_1CHW.shape[2:], x_BCHW.shape[2:]):
        table_1CHW = F.interpolate(table_1CHW, x_BCHW.shape[2:], mode="bicubic", align_corners=False)
    return x_BCHW + table_1CHW


@ENCODERS.add("vig", variants=_SIZES)
class ViG(TokenEncoder):
    """A map of stride 16 for each block.

    Args:
        in_chans: channels of the image.
        out_indices: which blocks' maps to return; None for the last three.
        normalisation: see `Encoder`.
        img_size: side of the images that positions are made for, in pixels.
        embed_dim: channels.
        depth: blocks.
        num_neighbours: of the first block; the last has twice as many.
        dilated: whether the dilation of the neighbourhood grows by 1 every four blocks.
        conv: the graph convolution: "mr" as published, "edge", "sage" or "gin"; see `NeighbourGraph`.
        activation: of all layers.
        norm: in the graph convolutions: "batch", "instance" or "none".
        bias: of the graph convolutions.
        stochastic: probability, in training, that neighbours are drawn among those that dilation leaves out too.
        mlp_ratio: hidden width of the feed-forward networks, in channels.
        drop_path: probability that the last block is dropped in training; less before it.
    """

    def __init__(
        self,
        in_chans: int = 3,
        out_indices: Sequence[int] | None = None,
        normalisation: Normalisation = "symmetric",
        img_size: int = 224,
        embed_dim: int = 192,
        depth: int = 12,
        num_neighbours: int = 9,
        dilated: bool = True,
        conv: GraphConvolution = "mr",
        activation: Activation = "gelu",
        norm: GraphNorm = "batch",
        bias: bool = True,
        stochastic: float = 0.0,
        mlp_ratio: float = 4.0,
        drop_path: float = 0.0,
    ):
        super().__init__(
            in_chans,
            dim=embed_dim,
            num_blocks=depth,
            patch_px=16,
            out_indices=out_indices,
            normalisation=normalisation,
        )
        self.activation: Activation = activation
        self.stem = _stem(in_chans, [embed_dim // 8, embed_dim // 4, embed_dim // 2, embed_dim], activation)
        self.pos_embed = nn.Parameter(torch.zeros(1, embed_dim, img_size // 16, img_size // 16))
        numbers = [int(number) for number in torch.linspace(num_neighbours, 2 * num_neighbours, depth, device="cpu")]
        largest = max(14**2 // max(numbers), 1)
        dilations = [min(index // 4 + 1, largest) if dilated else 1 for index in range(depth)]
        (rates,) = split_depths([depth], drop_path)
        graph = _Graph(conv, activation, norm, bias, stochastic)
        self.stack = nn.ModuleList(
            graph.block(embed_dim, mlp_ratio, rate, num_neighbours=number, dilation=dilation)
            for number, dilation, rate in zip(numbers, dilations, rates, strict=True)
        )
        self.norm = nn.Identity()

    def embed(self, x_BCHW: torch.Tensor) -> Tokens:
        """What the convolutions make of patches, with positions."""
        return Tokens.of_map(_with_positions(self.stem(x_BCHW), self.pos_embed).permute(0, 2, 3, 1))

    def block(self, block: nn.Module, tokens: Tokens) -> Tokens:
        """Graphs are of maps."""
        return tokens.with_values(block(tokens.map_BHWC()).flatten(1, 2))

    def published_key(self, key: str) -> str:
        """The names of the official code."""
        if key.startswith("stem."):
            return key.replace("stem.", "stem.convs.")
        if not key.startswith("stack."):
            return key
        _, number, rest = key.split(".", 2)
        return f"backbone.{number}.{_published_block(rest)}"

    def head(self, num_classes: int) -> nn.Module:
        """1024 channels between the mean of the map and the logits."""
        return _Head(self._declared[-1][0], num_classes, self.activation)


@ENCODERS.add("pyramid_vig", variants=_PYRAMIDS)
class PyramidViG(StagedEncoder):
    """Four maps of strides 4, 8, 16 and 32.

    Args:
        in_chans: channels of the image.
        out_indices: which maps to return; None for all.
        normalisation: see `Encoder`.
        img_size: side of the images that positions and distances are made for, in pixels.
        dims: channels of the stages.
        depths: blocks of the stages.
        num_neighbours: of every block.
        reductions: of the stages: neighbours are means of squares of this side.
        conv: the graph convolution: "mr" as published, "edge", "sage" or "gin"; see `NeighbourGraph`.
        activation: of all layers.
        norm: in the graph convolutions: "batch", "instance" or "none".
        bias: of the graph convolutions.
        stochastic: probability, in training, that neighbours are drawn among those that dilation leaves out too.
        mlp_ratio: hidden width of the feed-forward networks, in channels.
        drop_path: probability that the last block is dropped in training; less before it.
    """

    def __init__(
        self,
        in_chans: int = 3,
        out_indices: Sequence[int] | None = None,
        normalisation: Normalisation = "symmetric",
        img_size: int = 224,
        dims: Sequence[int] = (48, 96, 240, 384),
        depths: Sequence[int] = (2, 2, 6, 2),
        num_neighbours: int = 9,
        reductions: Sequence[int] = (4, 2, 1, 1),
        conv: GraphConvolution = "mr",
        activation: Activation = "gelu",
        norm: GraphNorm = "batch",
        bias: bool = True,
        stochastic: float = 0.0,
        mlp_ratio: float = 4.0,
        drop_path: float = 0.0,
    ):
        super().__init__(in_chans, channels=dims, out_indices=out_indices, normalisation=normalisation)
        self.activation: Activation = activation
        self.downsample_layers = nn.ModuleList(
            [
                _stem(in_chans, [dims[0] // 2, dims[0]], activation),
                *(
                    nn.Sequential(nn.Conv2d(before, after, 3, 2, 1), nn.BatchNorm2d(after))
                    for before, after in pairwise(dims)
                ),
            ]
        )
        self.pos_embed = nn.Parameter(torch.zeros(1, dims[0], img_size // 4, img_size // 4))
        self.stages = nn.ModuleList()
        largest, index = max(7**2 // num_neighbours, 1), 0
        graph = _Graph(conv, activation, norm, bias, stochastic)
        for stage, rates in enumerate(split_depths(depths, drop_path)):
            blocks = []
            for rate in rates:
                neighbours = {"num_neighbours": num_neighbours, "dilation": min(index // 4 + 1, largest)}
                of_map = {"reduction": reductions[stage], "grid_side": img_size // (4 << stage)}
                blocks.append(graph.block(dims[stage], mlp_ratio, rate, **neighbours, **of_map))
                index += 1
            self.stages.append(nn.Sequential(*blocks))
        self._depths = tuple(depths)

    def enter(self, number: int, x_BCHW: torch.Tensor) -> torch.Tensor:
        """Positions are added once, before the first stage."""
        return x_BCHW if number else _with_positions(x_BCHW, self.pos_embed)

    def published_key(self, key: str) -> str:
        """The names of the official code, where blocks and reductions stand in one list."""
        if key == "pos_embed":
            return key
        kind, stage, rest = key.split(".", 2)
        first = sum(self._depths[: int(stage)]) + int(stage)
        if kind == "downsample_layers":
            return f"backbone.{first - 1}.conv.{rest}" if int(stage) else f"stem.convs.{rest}"
        block, _, rest = rest.partition(".")
        return f"backbone.{first + int(block)}.{_published_block(rest)}"

    def head(self, num_classes: int) -> nn.Module:
        """1024 channels between the mean of the coarsest map and the logits."""
        return _Head(self._declared[-1][0], num_classes, self.activation)


class _Head(nn.Module):
    def __init__(self, dim: int, num_classes: int, activation: Activation, width: int = 1024):
        super().__init__()
        first = nn.Linear(dim, width), nn.BatchNorm1d(width), activation_layer(activation)
        self.prediction = nn.Sequential(*first, nn.Dropout(0), nn.Linear(width, num_classes))

    def forward(self, features: Features) -> torch.Tensor:
        return self.prediction(features.maps[-1].mean(dim=(2, 3)))
