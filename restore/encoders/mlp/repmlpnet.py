"""RepMLPNet: a hierarchical network of linear maps over windows, trained with convolutions that fold into them.

Ding et al. 2021, arXiv 2112.11081 (CVPR 2022); the block is that of arXiv 2105.01883. Official code:
github.com/DingXiaoH/RepMLP (MIT), whose keys are kept. `restore.layers.folding.fold` is its locality injection. Here
several windows of a map are put together in their order, which `compat` undoes; published networks have one window.

B batch, H x W image, C channels of a stage.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from restore.encoders.base import Normalisation
from restore.encoders.features import Features
from restore.encoders.heads import LinearHead
from restore.encoders.staged import StagedEncoder, split_depths
from restore.layers.block import MetaFormerBlock
from restore.layers.ffn import BatchNormMLP
from restore.layers.mixers.mlp.repmlp import RepMLP
from restore.layers.patches import patch_projection
from restore.registry import ENCODERS

__all__ = ["RepMLPNet"]

_RENAMED = {
    "norm1.": "prebn1.",
    "norm2.": "prebn2.",
    "mixer.": "repmlp_block.",
    "ffn.fc1.bn.": "ffn_block.ffn_fc1.bn.",
    "ffn.fc1.": "ffn_block.ffn_fc1.conv.",
    "ffn.fc2.bn.": "ffn_block.ffn_fc2.bn.",
    "ffn.fc2.": "ffn_block.ffn_fc2.conv.",
}
_AT_256 = {"window_sizes": (64, 32, 16, 8)}
_SIZES = {
    "t224": {"depths": (2, 2, 6, 2), "num_sharesets": (1, 4, 16, 128)},
    "t256": {"depths": (2, 2, 6, 2), "num_sharesets": (1, 4, 16, 128), **_AT_256},
    "b224": {"dims": (96, 192, 384, 768), "depths": (2, 2, 12, 2), "num_sharesets": (1, 4, 32, 128)},
    "b256": {"dims": (96, 192, 384, 768), "depths": (2, 2, 12, 2), "num_sharesets": (1, 4, 32, 128), **_AT_256},
    "d256": {"dims": (80, 160, 320, 640), "depths": (2, 2, 18, 2), "num_sharesets": (1, 4, 16, 128), **_AT_256},
    "l256": {"dims": (96, 192, 384, 768), "depths": (2, 2, 18, 2), "num_sharesets": (1, 4, 32, 256), **_AT_256},
}


@ENCODERS.add("repmlpnet", variants=_SIZES)
class RepMLPNet(StagedEncoder):
    """Four maps of strides 4, 8, 16 and 32, where patches have 4 px.

    Maps that are no whole windows are reflected up to such in every mixer.

    Args:
        in_chans: channels of the image.
        out_indices: which maps to return; None for all.
        normalisation: see `Encoder`.
        dims: channels of the stages.
        depths: blocks of the stages.
        window_sizes: sides of the windows of the stages, or rows and columns of each.
        num_sharesets: sets of channels of the stages that share matrices.
        kernel_sizes: sides of the convolutions beside the matrices.
        mlp_ratio: hidden width of the feed-forward networks, in channels.
        patch_size: side of a patch.
        reduction: the hidden layers of the gates have channels / reduction channels (`globalperceptron_reduce`).
        deploy: whether convolutions and norms are in the matrices already, as in weights that were converted.
        drop_path: probability that the last block is dropped in training; less before it.
        compat: put several windows together in the wrong order of the official code; see `RepMLP`.
    """

    def __init__(
        self,
        in_chans: int = 3,
        out_indices: Sequence[int] | None = None,
        normalisation: Normalisation = "symmetric",
        dims: Sequence[int] = (64, 128, 256, 512),
        depths: Sequence[int] = (2, 2, 6, 2),
        window_sizes: Sequence[int | tuple[int, int]] = (56, 28, 14, 7),
        num_sharesets: Sequence[int] = (1, 4, 16, 128),
        kernel_sizes: Sequence[int] = (1, 3),
        mlp_ratio: float = 4.0,
        patch_size: int = 4,
        reduction: int = 4,
        deploy: bool = False,
        drop_path: float = 0.0,
        compat: bool = False,
    ):
        windows = [(each, each) if isinstance(each, int) else (each[0], each[1]) for each in window_sizes]
        super().__init__(
            in_chans,
            channels=dims,
            patch_px=patch_size,
            out_indices=out_indices,
            normalisation=normalisation,
        )
        mixer: dict[str, Any] = {"reduction": reduction, "batch_norm": not deploy, "compat": compat}
        kernel_sizes = () if deploy else kernel_sizes
        widths = [in_chans, *dims]
        self.downsample_layers = nn.ModuleList(
            _reduction(widths[i], widths[i + 1], 2 if i else patch_size) for i in range(len(dims))
        )
        self.stages = nn.ModuleList(
            nn.Sequential(
                *(
                    MetaFormerBlock(
                        dim,
                        RepMLP(dim, window, num_sets, kernel_sizes, **mixer),
                        BatchNormMLP(dim, mlp_ratio, bias=False),
                        norm="batch",
                        drop_path=rate,
                    )
                    for rate in rates
                )
            )
            for dim, window, num_sets, rates in zip(
                dims, windows, num_sharesets, split_depths(depths, drop_path), strict=True
            )
        )

    def published_key(self, key: str) -> str:
        """The names of the official code."""
        if key.startswith("downsample_layers."):
            _, stage, rest = key.split(".", 2)
            return f"embeds.{int(stage) - 1}.{rest}" if int(stage) else f"conv_embedding.{rest}"
        _, stage, block, rest = key.split(".", 3)
        own = next(name for name in _RENAMED if rest.startswith(name))
        return f"stages.{stage}.{block}.{_RENAMED[own]}{rest.removeprefix(own)}"

    def head(self, num_classes: int) -> nn.Module:
        """One linear layer on the mean of the normed map."""
        return _Head(self._declared[-1][0], num_classes)


class _Head(LinearHead):
    def __init__(self, dim: int, num_classes: int):
        super().__init__(dim, num_classes)
        self.head_norm = nn.BatchNorm2d(dim)

    def pool(self, features: Features) -> torch.Tensor:
        return self.head_norm(features.maps[-1]).mean(dim=(2, 3))


def _reduction(before: int, after: int, stride: int) -> nn.Sequential:
    layer = nn.Sequential()
    layer.add_module("conv", patch_projection(before, after, stride, bias=False))
    layer.add_module("bn", nn.BatchNorm2d(after))
    layer.add_module("relu", nn.ReLU())
    return layer
