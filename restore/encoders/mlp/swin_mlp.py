"""Swin-MLP: Swin Transformer with a linear map of the positions of a window where it has attention.

Liu et al. 2021, arXiv 2103.14030. Official code: github.com/microsoft/Swin-Transformer (MIT), whose keys are kept.
Here images may have any size: windows that reach beyond the map see zeros there, as those of shifted blocks do; the
published code takes one size.

B batch, H x W image, C channels of a stage.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from restore.encoders.base import Normalisation
from restore.encoders.heads import LinearHead
from restore.encoders.staged import PatchMerging, StagedEncoder, layers_key, normed_patches, split_depths, with_table
from restore.layers.block import MetaFormerBlock
from restore.layers.ffn import MLP
from restore.layers.mixers.mlp.spatial import SpatialMLP
from restore.registry import ENCODERS

__all__ = ["SwinMLP"]

_TINY = {"img_size": 256, "depths": (2, 2, 6, 2), "window_size": 8}
_SIZES = {
    "tiny_c24": {**_TINY, "num_heads": (4, 8, 16, 32)},
    "tiny_c12": {**_TINY, "num_heads": (8, 16, 32, 64)},
    "tiny_c6": {**_TINY, "num_heads": (16, 32, 64, 128)},
    "base": {"embed_dim": 128, "depths": (2, 2, 18, 2), "num_heads": (4, 8, 16, 32)},
}


@ENCODERS.add("swin_mlp", variants=_SIZES)
class SwinMLP(StagedEncoder):
    """Maps of strides 4, 8, 16 and 32, where patches have 4 px.

    Args:
        in_chans: channels of the image.
        out_indices: which maps to return; None for all.
        normalisation: see `Encoder`.
        img_size: side of the images that the network is made for: where a map of theirs is no larger than a window,
            the window is the map, and no block of the stage is shifted.
        embed_dim: channels of the first stage; each further has twice as many.
        depths: blocks of the stages.
        num_heads: sets of channels of the stages.
        window_size: side of the windows.
        mlp_ratio: hidden width of the feed-forward networks, in channels.
        patch_size: side of a patch.
        positions: whether a learned table of them is added to the patches.
        patch_norm: whether patches are normed.
        drop_path: probability that the last block is dropped in training; less before it.
    """

    def __init__(
        self,
        in_chans: int = 3,
        out_indices: Sequence[int] | None = None,
        normalisation: Normalisation = "symmetric",
        img_size: int = 224,
        embed_dim: int = 96,
        depths: Sequence[int] = (2, 2, 6, 2),
        num_heads: Sequence[int] = (3, 6, 12, 24),
        window_size: int = 7,
        mlp_ratio: float = 4.0,
        patch_size: int = 4,
        positions: bool = False,
        patch_norm: bool = True,
        drop_path: float = 0.0,
    ):
        dims = [embed_dim << stage for stage in range(len(depths))]
        super().__init__(
            in_chans,
            channels=dims,
            patch_px=patch_size,
            out_indices=out_indices,
            normalisation=normalisation,
        )
        patches = normed_patches(in_chans, embed_dim, patch_px=patch_size, norm=patch_norm)
        self.absolute_pos_embed = None
        if positions:
            self.absolute_pos_embed = nn.Parameter(0.02 * torch.randn(1, (img_size // patch_size) ** 2, embed_dim))
        self.downsample_layers = nn.ModuleList([patches, *(PatchMerging(dim) for dim in dims[:-1])])
        self.stages = nn.ModuleList()
        for stage, rates in enumerate(split_depths(depths, drop_path)):
            side = img_size // (patch_size << stage)
            window, shifts = min(window_size, side), side > window_size
            self.stages.append(
                nn.Sequential(
                    *(
                        MetaFormerBlock(
                            dims[stage],
                            SpatialMLP(dims[stage], window, num_heads[stage], shifted=shifts and number % 2 == 1),
                            MLP(dims[stage], mlp_ratio),
                            drop_path=rate,
                        )
                        for number, rate in enumerate(rates)
                    )
                )
            )

    def enter(self, number: int, x_BCHW: torch.Tensor) -> torch.Tensor:
        """Positions are added once, before the first stage, where there are such."""
        return x_BCHW if number else with_table(x_BCHW, self.absolute_pos_embed)

    def published_key(self, key: str) -> str:
        """The names of the official code."""
        if key == "absolute_pos_embed":
            return key
        return layers_key(key, lambda rest: rest.removeprefix("mixer.").replace("ffn.", "mlp."))

    def head(self, num_classes: int) -> nn.Module:
        """One linear layer on the mean of the normed map."""
        dim = self._declared[-1][0]
        return LinearHead(dim, num_classes, pooling="normed_map", norm=nn.LayerNorm(dim))
