"""Context Cluster: an image is a set of points with colours and places, which gather at centres in every block.

Ma et al. 2023, "Image as Set of Points", arXiv 2303.01494. Official code: github.com/ma-xu/Context-Cluster (Apache-2.0;
its model file says MIT), whose keys are kept.

B batch, H x W image, C channels of a stage.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import nn

from restore.encoders.base import Normalisation
from restore.encoders.heads import LinearHead
from restore.encoders.staged import StagedEncoder, network_key, split_depths
from restore.layers.activations import Activation
from restore.layers.arguments import require_exact
from restore.layers.block import MetaFormerBlock
from restore.layers.build import build_norm
from restore.layers.ffn import MLP
from restore.layers.mixers.graph.cluster import ContextClusterMixer
from restore.registry import ENCODERS, NormOption

__all__ = ["ContextCluster"]

_RENAMED = {
    "mixer.": "token_mixer.",
    "ffn.": "mlp.",
    "scale1.gamma": "layer_scale_1",
    "scale2.gamma": "layer_scale_2",
}
_TINY: dict[str, Any] = {"dims": (32, 64, 196, 320), "depths": (3, 4, 5, 2), "num_heads": (4, 4, 8, 8), "head_dim": 24}
_SIZES: dict[str, dict[str, Any]] = {
    "tiny": _TINY,
    "tiny2": {**_TINY, "num_centres": (4, 2, 7, 4), "num_folds": (7, 7, 1, 1)},
    "tiny_plain": {**_TINY, "num_centres": (4, 4, 2, 2), "num_folds": (1, 1, 1, 1)},
    "small": {"depths": (2, 2, 6, 2)},
    "medium": {"depths": (4, 4, 12, 4), "num_heads": (6, 6, 12, 12)},
    "base_dim64": {"depths": (6, 6, 24, 6), "num_heads": (8, 8, 16, 16)},
    "base_dim96": {"depths": (4, 4, 12, 4), "dims": (96, 192, 384, 768), "num_heads": (8, 8, 16, 16)},
}


@ENCODERS.add("context_cluster", variants=_SIZES)
class ContextCluster(StagedEncoder):
    """Four maps of strides 4, 8, 16 and 32, where `patch_stride` is 4.

    Args:
        in_chans: channels of the image.
        out_indices: which maps to return; None for all.
        normalisation: see `Encoder`.
        dims: channels of the stages.
        depths: blocks of the stages.
        num_heads: sets of channels of the stages that are clustered apart.
        head_dim: channels of a set.
        num_centres: rows, and columns, of the centres of a region in each stage, one number or two.
        num_folds: rows, and columns, of the regions of the maps of each stage, one number or two.
        mlp_ratios: hidden width of the feed-forward networks of the stages, in channels.
        norm: a registered norm; that of the published networks is over a whole map.
        activation: of the feed-forward networks.
        layer_scale: first value of the learned factors of the branches; None: there are none.
        patch_size: side of the convolution that makes the first points, which may overlap.
        patch_stride: its stride.
        patch_padding: pixels of zeros around the image.
        reduction_size: side of the convolutions between stages, 2 or 3.
        drop_path: probability that the last block is dropped in training; less before it.
        compat: one region where there is one row or one column of regions, as in the official code.
    """

    def __init__(
        self,
        in_chans: int = 3,
        out_indices: Sequence[int] | None = None,
        normalisation: Normalisation = "symmetric",
        dims: Sequence[int] = (64, 128, 320, 512),
        depths: Sequence[int] = (2, 2, 6, 2),
        num_heads: Sequence[int] = (4, 4, 8, 8),
        head_dim: int | Sequence[int] = 32,
        num_centres: Sequence[int | tuple[int, int]] = (2, 2, 2, 2),
        num_folds: Sequence[int | tuple[int, int]] = (8, 4, 2, 1),
        mlp_ratios: Sequence[float] = (8, 8, 4, 4),
        norm: NormOption = "group",
        activation: Activation = "gelu",
        layer_scale: float | None = 1e-5,
        patch_size: int = 4,
        patch_stride: int = 4,
        patch_padding: int = 0,
        reduction_size: int = 3,
        drop_path: float = 0.0,
        compat: bool = False,
    ):
        require_exact("patch", patch_size, patch_stride, patch_padding)
        if reduction_size not in (2, 3):
            raise ValueError(f"reduction_size is {reduction_size}: it must be 2 or 3")
        if compat:
            num_folds = [fold if isinstance(fold, int) or min(fold) > 1 else 1 for fold in num_folds]
        strides = [patch_stride << stage for stage in range(len(dims))]
        super().__init__(
            in_chans,
            channels=dims,
            patch_px=patch_stride,
            out_indices=out_indices,
            normalisation=normalisation,
            size_multiple=math.lcm(
                *(
                    stride * fold
                    for stride, folds in zip(strides, num_folds, strict=True)
                    for fold in ([folds] if isinstance(folds, int) else folds)
                )
            ),
        )
        head_dims = [head_dim] * len(dims) if isinstance(head_dim, int) else head_dim
        self.downsample_layers = nn.ModuleList(
            [
                _PlacedConvolution(in_chans + 2, dims[0], patch_size, patch_stride, patch_padding),
                *(nn.Conv2d(*pair, reduction_size, 2, (reduction_size - 1) // 2) for pair in pairwise(dims)),
            ]
        )
        self.stages, self._norm = nn.ModuleList(), norm
        for stage, rates in enumerate(split_depths(depths, drop_path)):
            mixer = (num_heads[stage], head_dims[stage], num_centres[stage], num_folds[stage])
            self.stages.append(
                nn.Sequential(
                    *(
                        MetaFormerBlock(
                            dims[stage],
                            ContextClusterMixer(dims[stage], *mixer),
                            MLP(dims[stage], mlp_ratios[stage], activation=activation),
                            norm=norm,
                            layer_scale=layer_scale,
                            drop_path=rate,
                        )
                        for rate in rates
                    )
                )
            )

    def published_key(self, key: str) -> str:
        """The names of the official code."""
        return network_key(key, _RENAMED)

    def head(self, num_classes: int) -> nn.Module:
        """One linear layer on the mean of the normed map."""
        dim = self._declared[-1][0]
        return LinearHead(dim, num_classes, pooling="normed_map", norm=build_norm(self._norm, dim))


class _PlacedConvolution(nn.Conv2d):
    """A convolution that sees the row and the column of each pixel as well, from -0.5 to 0.5."""

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        B, _, H, W = x_BCHW.shape
        rows, columns = (torch.arange(side, device=x_BCHW.device) / (side - 1.0) - 0.5 for side in (H, W))
        places_2HW = torch.stack([rows[:, None].expand(H, W), columns[None].expand(H, W)]).to(x_BCHW.dtype)
        return super().forward(torch.cat([x_BCHW, places_2HW.expand(B, -1, -1, -1)], dim=1))
