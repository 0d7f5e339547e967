"""AMixer: tokens choose among learned maps of relative positions the weights with which others see them.

Rao et al., ECCV 2022. Official code: github.com/raoyongming/AMixer (MIT), whose keys are kept. What differs here: the
mask of shifted windows, which the official code makes and does not use, is used, unless `compat` is set; and images
may have any size. The official constructors of the hierarchical networks raise; these are as they are meant.

B batch, H x W image, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from restore.encoders.base import Normalisation
from restore.encoders.heads import LinearHead
from restore.encoders.isotropic import MapBlocksEncoder
from restore.encoders.staged import (
    ChannelsFirstNorm,
    PatchMerging,
    StagedEncoder,
    layers_key,
    normed_patches,
    split_depths,
)
from restore.layers.block import MetaFormerBlock
from restore.layers.exportable import is_of_size
from restore.layers.ffn import MLP
from restore.layers.mixers.mlp.adaptive import AdaptiveMixing, MixingMode
from restore.layers.patches import linear_patches
from restore.layers.tokens import Tokens
from restore.registry import ENCODERS

__all__ = ["AMixer", "AMixerDeiT"]

_SIZES: dict[str, dict[str, Any]] = {
    "tiny": {"depths": (2, 2, 10, 2)},
    "small": {"depths": (2, 2, 26, 2)},
    "base": {"embed_dim": 128, "depths": (2, 2, 26, 2), "num_heads": (4, 8, 16, 32)},
}


def _published_block(rest: str, mixer: str) -> str:
    names = {"mixer.": f"{mixer}.", "ffn.": "mlp.", "scale1.gamma": "gamma1", "scale2.gamma": "gamma2"}
    own = next((name for name in names if rest.startswith(name)), "")
    return f"{names.get(own, '')}{rest.removeprefix(own)}"


@ENCODERS.add("amixer", variants=_SIZES)
class AMixer(StagedEncoder):
    """Maps of strides 4, 8, 16 and 32.

    Args:
        in_chans: channels of the image.
        out_indices: which maps to return; None for all.
        normalisation: see `Encoder`.
        img_size: side of the images that the network is made for: no window is larger than a map of theirs, and where
            it is the map, no block of the stage is shifted.
        embed_dim: channels of the first stage; each further has twice as many.
        depths: blocks of the stages.
        num_heads: sets of channels of the stages with weights of their own.
        window_sizes: sides of the windows of the stages.
        maps_per_head: maps of the banks, in heads.
        mlp_ratio: hidden width of the feed-forward networks, in channels.
        drop_path: probability that the last block is dropped in training; less before it.
        compat: leave the mask of shifted windows out, as the official code does.
    """

    derived_keys = ("relative_position_index", "attn_mask")

    def __init__(
        self,
        in_chans: int = 3,
        out_indices: Sequence[int] | None = None,
        normalisation: Normalisation = "symmetric",
        img_size: int = 224,
        embed_dim: int = 96,
        depths: Sequence[int] = (2, 2, 10, 2),
        num_heads: Sequence[int] = (3, 6, 12, 24),
        window_sizes: Sequence[int] = (7, 7, 14, 7),
        maps_per_head: float = 1.5,
        mlp_ratio: float = 3.0,
        drop_path: float = 0.0,
        compat: bool = False,
    ):
        dims = [embed_dim << stage for stage in range(len(depths))]
        super().__init__(in_chans, channels=dims, out_indices=out_indices, normalisation=normalisation)
        patches = normed_patches(in_chans, embed_dim)
        merging = [PatchMerging(dim, bias=True, by_rows=True) for dim in dims[:-1]]
        self.downsample_layers = nn.ModuleList([patches, *merging])
        self.stages = nn.ModuleList()
        for stage, rates in enumerate(split_depths(depths, drop_path)):
            side = img_size // (4 << stage)
            heads, window = num_heads[stage], min(window_sizes[stage], side)
            blocks = []
            for number, rate in enumerate(rates):
                mixer = AdaptiveMixing(
                    dims[stage],
                    heads,
                    window,
                    num_maps=int(heads * maps_per_head),
                    shifted=side > window and number % 2 == 1,
                    compat=compat,
                )
                feed_forward = MLP(dims[stage], mlp_ratio)
                blocks.append(MetaFormerBlock(dims[stage], mixer, feed_forward, layer_scale=1e-3, drop_path=rate))
            self.stages.append(nn.Sequential(*blocks))

    def published_key(self, key: str) -> str:
        """The names of the official code."""
        published = layers_key(key, lambda rest: _published_block(rest, "spatial_mixer"))
        return published.replace(".downsample.reduction.", ".downsample.proj.")

    def head(self, num_classes: int) -> nn.Module:
        """One linear layer on the mean of the normed map."""
        dim = self._declared[-1][0]
        return LinearHead(dim, num_classes, pooling="normed_map", norm=nn.LayerNorm(dim))


@ENCODERS.add("amixer_deit", variants={"small": {}})
class AMixerDeiT(MapBlocksEncoder):
    """A map of stride `patch_size` for each block; images larger than `img_size` are cut into tiles.

    Args:
        in_chans: channels of the image.
        out_indices: which blocks' maps to return; None for the last three.
        normalisation: see `Encoder`.
        img_size: side of the largest images that positions and banks are made for, in pixels.
        patch_size: side of a patch.
        embed_dim: channels.
        depth: blocks.
        num_heads: sets of channels with weights of their own.
        num_maps: maps of the banks.
        mode: how weights are normed; see `AdaptiveMixing`, as for the next three.
        relative: whether banks are of relative positions.
        pre_proj: whether there is a linear map of the values.
        post_proj: whether there is one of the sums.
        mlp_ratio: hidden width of the feed-forward networks, in channels.
        drop_path: probability that the last block is dropped in training; less before it.
    """

    derived_keys = ("relative_position_index",)

    def __init__(
        self,
        in_chans: int = 3,
        out_indices: Sequence[int] | None = None,
        normalisation: Normalisation = "symmetric",
        img_size: int = 224,
        patch_size: int = 16,
        embed_dim: int = 384,
        depth: int = 17,
        num_heads: int = 8,
        num_maps: int = 16,
        mode: MixingMode = "linear-softmax",
        relative: bool = True,
        pre_proj: bool = True,
        post_proj: bool = True,
        mlp_ratio: float = 3.0,
        drop_path: float = 0.0,
    ):
        super().__init__(
            in_chans,
            dim=embed_dim,
            num_blocks=depth,
            patch_px=patch_size,
            out_indices=out_indices,
            tile_px=img_size,
            size_multiple=patch_size,
            normalisation=normalisation,
        )
        side = img_size // patch_size
        mixing: dict[str, Any] = {
            "mode": mode, "relative": relative, "pre_proj": pre_proj, "post_proj": post_proj
        }  # fmt: skip
        self.patch_embed = linear_patches(in_chans, embed_dim, patch_size)
        self.patch_embed.add_module("norm", ChannelsFirstNorm(embed_dim, eps=1e-6))
        self.pos_embed = nn.Parameter(0.02 * torch.randn(1, side, side, embed_dim))
        (rates,) = split_depths([depth], drop_path)
        self.stack = nn.ModuleList(
            MetaFormerBlock(
                embed_dim,
                AdaptiveMixing(embed_dim, num_heads, side, num_maps, **mixing),
                MLP(embed_dim, mlp_ratio),
                norm={"type": "layer", "eps": 1e-6},
                layer_scale=1e-4,
                drop_path=rate,
            )
            for rate in rates
        )
        self.norm = nn.LayerNorm(embed_dim, eps=1e-6)

    def embed(self, x_BCHW: torch.Tensor) -> Tokens:
        """Normed patches with their positions."""
        patches_BCHW = self.patch_embed(x_BCHW)
        table_1CHW = self.pos_embed.permute(0, 3, 1, 2)
        if not is_of_size(table_1CHW.shape[2:], patches_BCHW.shape[2:]):
            table_1CHW = F.interpolate(table_1CHW, patches_BCHW.shape[2:], mode="bilinear", align_corners=True)
        return Tokens.of_map((patches_BCHW + table_1CHW).permute(0, 2, 3, 1))

    def published_key(self, key: str) -> str:
        """The names of the official code."""
        if not key.startswith("stack."):
            return key
        _, number, rest = key.split(".", 2)
        return f"blocks.{number}.{_published_block(rest, 'spatil_mlp')}"
