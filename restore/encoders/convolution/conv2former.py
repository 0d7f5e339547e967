"""Conv2Former: transformer blocks whose attention is a depth-wise convolution that weights the values.

Hou et al. 2022, arXiv 2211.11943. Official code: github.com/HVision-NKU/Conv2Former (Apache-2.0), whose keys are kept.
Linear maps stand where it has 1x1 convolutions.

B batch, H x W image, C channels of a stage.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from restore.encoders.base import Normalisation
from restore.encoders.features import Features
from restore.encoders.staged import ChannelsFirstNorm, StagedEncoder, norm_reductions, per_stage, split_depths
from restore.layers.block import MetaFormerBlock
from restore.layers.ffn import PositionFeedForward
from restore.layers.mixers.convolution.modulation import ConvModulation
from restore.layers.patches import patch_projection
from restore.registry import ENCODERS

__all__ = ["Conv2Former"]

_RENAMED = {
    "norm1.": "attn.norm.",
    "norm2.": "mlp.norm.",
    "mixer.a.": "attn.att.0.",
    "mixer.conv.": "attn.att.2.",
    "mixer.": "attn.",
    "ffn.dwconv.": "mlp.pos.",
    "ffn.": "mlp.",
    "scale1.gamma": "layer_scale_1",
    "scale2.gamma": "layer_scale_2",
}
_SIZES: dict[str, dict[str, Any]] = {
    "nano": {"dims": (64, 128, 256, 512), "depths": (2, 2, 8, 2), "kernel_size": 7},
    "tiny": {"dims": (72, 144, 288, 576), "depths": (3, 3, 12, 3)},
    "small": {"dims": (72, 144, 288, 576), "depths": (4, 4, 32, 4)},
    "base": {"dims": (96, 192, 384, 768), "depths": (4, 4, 34, 4)},
    "large": {"dims": (128, 256, 512, 1024), "depths": (4, 4, 48, 4)},
}


@ENCODERS.add("conv2former", variants=_SIZES)
class Conv2Former(StagedEncoder):
    """Four maps of strides 4, 8, 16 and 32.

    Args:
        in_chans: channels of the image.
        out_indices: which maps to return; None for all.
        normalisation: see `Encoder`.
        dims: channels of the stages.
        depths: blocks of the stages.
        kernel_size: side of the modulating convolutions.
        mlp_ratio: hidden width of the feed-forward networks, in channels; one number, or one for each stage.
        drop_path: probability that the last block is dropped in training; less before it.
    """

    def __init__(
        self,
        in_chans: int = 3,
        out_indices: Sequence[int] | None = None,
        normalisation: Normalisation = "symmetric",
        dims: Sequence[int] = (72, 144, 288, 576),
        depths: Sequence[int] = (3, 3, 12, 3),
        kernel_size: int = 11,
        mlp_ratio: float | Sequence[float] = 4.0,
        drop_path: float = 0.0,
    ):
        super().__init__(in_chans, channels=dims, out_indices=out_indices, normalisation=normalisation)
        half = dims[0] // 2
        stem = nn.Sequential(
            nn.Conv2d(in_chans, half, 3, 2, 1, bias=False), nn.GELU(), nn.BatchNorm2d(half),
            nn.Conv2d(half, half, 3, 1, 1, bias=False), nn.GELU(), nn.BatchNorm2d(half),
            patch_projection(half, dims[0], 2, bias=False),
        )  # fmt: skip
        self.downsample_layers = nn.ModuleList([stem, *norm_reductions(dims)])
        self.stages = nn.ModuleList(
            nn.Sequential(
                *(
                    MetaFormerBlock(
                        dim,
                        ConvModulation(dim, kernel_size),
                        PositionFeedForward(dim, ratio),
                        norm={"type": "layer", "eps": 1e-6},
                        layer_scale=1e-6,
                        drop_path=rate,
                    )
                    for rate in rates
                )
            )
            for dim, rates, ratio in zip(
                dims, split_depths(depths, drop_path), per_stage(mlp_ratio, len(dims)), strict=True
            )
        )

    def published_key(self, key: str) -> str:
        """The names of the official code."""
        if not key.startswith("stages."):
            return key
        _, stage, block, rest = key.split(".", 3)
        own = next(name for name in _RENAMED if rest.startswith(name))
        return f"stages.{stage}.{block}.{_RENAMED[own]}{rest.removeprefix(own)}"

    def head(self, num_classes: int) -> nn.Module:
        """1280 channels, pooled after a norm."""
        return _Head(self._declared[-1][0], num_classes)


class _Head(nn.Module):
    def __init__(self, dim: int, num_classes: int, width: int = 1280):
        super().__init__()
        self.head = nn.Sequential(nn.Conv2d(dim, width, 1), nn.GELU(), ChannelsFirstNorm(width, eps=1e-6))
        self.pred = nn.Linear(width, num_classes)

    def forward(self, features: Features) -> torch.Tensor:
        return self.pred(self.head(features.maps[-1]).mean(dim=(2, 3)))
