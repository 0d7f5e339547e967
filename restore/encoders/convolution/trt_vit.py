"""After TRT-ViT: convolutional bottlenecks in early stages, blocks of attention and then a bottleneck in late ones.

Xia et al. 2022, arXiv 2205.09579, which found by measuring what is fast in TensorRT: attention late in the network and
early in a block, few blocks first and many later. There is no official code, and widths and depths here are ours: this
is built by the rules of the paper, and is none of its networks. No operation depends on values or on the size.

B batch, H x W map, C channels of a stage.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import nn

from restore.encoders.base import Normalisation
from restore.encoders.staged import StagedEncoder, split_depths
from restore.layers.block import MetaFormerBlock
from restore.layers.ffn import MLP
from restore.layers.mixers.attention.full import SelfAttention
from restore.layers.residual import DropPath
from restore.registry import ENCODERS

__all__ = ["AfterTRTViT", "Bottleneck", "MixedBlock"]

_SIZES: dict[str, dict[str, Any]] = {
    "small": {},
    "base": {"dims": (96, 192, 384, 768), "depths": (2, 4, 8, 12), "num_heads": 12},
}


@ENCODERS.add("after_trt_vit", variants=_SIZES)
class AfterTRTViT(StagedEncoder):
    """Four maps of strides 4, 8, 16 and 32.

    Args:
        in_chans: channels of the image.
        out_indices: which maps to return; None for all.
        normalisation: see `Encoder`.
        dims: channels of the stages.
        depths: blocks of the stages.
        num_mixed: how many of the last blocks of each stage have attention.
        num_heads: attention heads.
        shrink: channels that attention works on, in those of the stage; the bottleneck after it makes the others.
        mlp_ratio: hidden width of the feed-forward networks, in channels that attention works on.
        drop_path: probability that the last block is dropped in training; less before it.
    """

    def __init__(
        self,
        in_chans: int = 3,
        out_indices: Sequence[int] | None = None,
        normalisation: Normalisation = "symmetric",
        dims: Sequence[int] = (64, 128, 256, 512),
        depths: Sequence[int] = (2, 3, 5, 8),
        num_mixed: Sequence[int] = (0, 0, 1, 7),
        num_heads: int = 8,
        shrink: float = 0.5,
        mlp_ratio: float = 4.0,
        drop_path: float = 0.0,
    ):
        if not 0 < shrink < 1:
            raise ValueError(f"shrink is {shrink}: attention works on a part of the channels, between 0 and 1")
        if any(not 0 <= mixed <= depth for mixed, depth in zip(num_mixed, depths, strict=True)):
            raise ValueError(f"num_mixed {list(num_mixed)} must not be above depths {list(depths)}")
        super().__init__(in_chans, channels=dims, out_indices=out_indices, normalisation=normalisation)
        stem = [*_normed(in_chans, dims[0] // 2, 3, 2), *_normed(dims[0] // 2, dims[0], 3, 2)]
        reductions = [nn.Sequential(*_normed(before, after, 3, 2)) for before, after in pairwise(dims)]
        self.downsample_layers = nn.ModuleList([nn.Sequential(*stem), *reductions])
        self.stages = nn.ModuleList()
        for dim, mixed, rates in zip(dims, num_mixed, split_depths(depths, drop_path), strict=True):
            first = len(rates) - mixed
            self.stages.append(
                nn.Sequential(
                    *(Bottleneck(dim, drop_path=rate) for rate in rates[:first]),
                    *(MixedBlock(dim, num_heads, shrink, mlp_ratio, rate) for rate in rates[first:]),
                )
            )


def _normed(before: int, after: int, size: int, stride: int = 1) -> list[nn.Module]:
    """Convolution, batch norm and ReLU."""
    conv = nn.Conv2d(before, after, size, stride, size // 2, bias=False)
    return [conv, nn.BatchNorm2d(after), nn.ReLU()]


class Bottleneck(nn.Module):
    """x + convolutions of 1x1, 3x3 and 1x1 with batch norms, a quarter as wide between them.

    Args:
        dim: channels that come in.
        drop_path: probability that it is dropped in training.
    """

    def __init__(self, dim: int, drop_path: float = 0.0):
        super().__init__()
        self.layers, self.drop_path = bottleneck_layers(dim, dim), DropPath(drop_path)

    def forward(self, x_BHWC: torch.Tensor) -> torch.Tensor:
        """(B, H, W, C) to the same shape."""
        branch_BCHW = self.layers(x_BHWC.permute(0, 3, 1, 2))
        return x_BHWC + self.drop_path(branch_BCHW.permute(0, 2, 3, 1))


def bottleneck_layers(before: int, after: int) -> nn.Sequential:
    """Convolutions of 1x1, 3x3 and 1x1 with batch norms; no activation after the last."""
    width = max(after // 4, 1)
    return nn.Sequential(*_normed(before, width, 1), *_normed(width, width, 3), *_normed(width, after, 1)[:2])


class MixedBlock(nn.Module):
    """x + what attention makes of some channels, beside what a bottleneck makes of that (MixBlockC of the paper).

    Args:
        dim: channels.
        num_heads: attention heads.
        shrink: channels that attention works on, in `dim`.
        mlp_ratio: hidden width of the feed-forward network after attention.
        drop_path: probability that the block is dropped in training.
    """

    def __init__(self, dim: int, num_heads: int, shrink: float, mlp_ratio: float, drop_path: float = 0.0):
        super().__init__()
        inner = int(dim * shrink)
        self.reduce = nn.Sequential(*_normed(dim, inner, 1))
        self.transformer = MetaFormerBlock(inner, SelfAttention(inner, num_heads), MLP(inner, mlp_ratio))
        self.bottleneck = bottleneck_layers(inner, dim - inner)
        self.drop_path = DropPath(drop_path)

    def forward(self, x_BHWC: torch.Tensor) -> torch.Tensor:
        """(B, H, W, C) to the same shape."""
        reduced_BCHW = self.reduce(x_BHWC.permute(0, 3, 1, 2))
        global_BHWC = self.transformer(reduced_BCHW.permute(0, 2, 3, 1))
        local_BHWC = self.bottleneck(global_BHWC.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return x_BHWC + self.drop_path(torch.cat([global_BHWC, local_BHWC], dim=-1))
