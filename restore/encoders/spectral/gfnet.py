"""GFNet: blocks whose mixer is a learned filter of the frequencies of each channel.

Rao et al. 2021, arXiv 2107.00645. Official code: github.com/raoyongming/GFNet (MIT), whose keys are kept. Here images
may have any size: positions are resampled bicubically, filters bilinearly; the published code takes one size.

B batch, H x W image, C channels, N patches.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from restore.encoders.base import Normalisation
from restore.encoders.features import Features
from restore.encoders.isotropic import MapBlocksEncoder
from restore.encoders.staged import StagedEncoder, per_stage, split_depths, with_table
from restore.layers.ffn import MLP
from restore.layers.mixers.spectral.global_filter import GlobalFilter
from restore.layers.patches import linear_patches, patch_projection
from restore.layers.residual import DropPath, LayerScale
from restore.registry import ENCODERS

__all__ = ["GFNet", "HierarchicalGFNet"]

_RENAMED = {"mixer.": "filter.", "ffn.": "mlp.", "scale.gamma": "gamma"}
_SIZES = {
    "tiny": {"embed_dim": 256, "depth": 12},
    "xs": {"embed_dim": 384, "depth": 12},
    "small": {"embed_dim": 384, "depth": 19},
    "base": {"embed_dim": 512, "depth": 19},
}
_HIERARCHICAL = {
    "tiny": {"dims": (64, 128, 256, 512), "depths": (3, 3, 10, 3)},
    "small": {"dims": (96, 192, 384, 768), "depths": (3, 3, 10, 3)},
    "base": {"dims": (96, 192, 384, 768), "depths": (3, 3, 27, 3)},
}


class _Block(nn.Module):
    """Filter and feed-forward network on one branch; (B, H, W, C) to the same shape."""

    def __init__(self, dim: int, filter_size: int, mlp_ratio: float, drop_path: float, layer_scale: float | None):
        super().__init__()
        self.norm1, self.mixer = nn.LayerNorm(dim, eps=1e-6), GlobalFilter(dim, filter_size)
        self.norm2, self.ffn = nn.LayerNorm(dim, eps=1e-6), MLP(dim, mlp_ratio)
        self.scale = nn.Identity() if layer_scale is None else LayerScale(dim, layer_scale)
        self.drop_path = DropPath(drop_path)

    def forward(self, x_BHWC: torch.Tensor) -> torch.Tensor:
        return x_BHWC + self.drop_path(self.scale(self.ffn(self.norm2(self.mixer(self.norm1(x_BHWC))))))


def _published(key: str) -> str:
    for own, published in _RENAMED.items():
        key = key.replace(f".{own}", f".{published}")
    return key


@ENCODERS.add("gfnet", variants=_SIZES)
class GFNet(MapBlocksEncoder):
    """A map of stride `patch_size` for each block.

    Args:
        in_chans: channels of the image.
        out_indices: which blocks' maps to return; None for the last three.
        normalisation: see `Encoder`.
        img_size: side of the images that positions and filters are made for, in pixels.
        patch_size: side of a patch.
        embed_dim: channels.
        depth: blocks.
        mlp_ratio: hidden width of the feed-forward networks, in channels.
        drop_path: probability that the last block is dropped in training; less before it.
    """

    def __init__(
        self,
        in_chans: int = 3,
        out_indices: Sequence[int] | None = None,
        normalisation: Normalisation = "symmetric",
        img_size: int = 224,
        patch_size: int = 16,
        embed_dim: int = 384,
        depth: int = 12,
        mlp_ratio: float = 4.0,
        drop_path: float = 0.0,
    ):
        super().__init__(
            in_chans,
            dim=embed_dim,
            num_blocks=depth,
            patch_px=patch_size,
            out_indices=out_indices,
            normalisation=normalisation,
        )
        side = img_size // patch_size
        self.patch_embed = linear_patches(in_chans, embed_dim, patch_size)
        self.pos_embed = nn.Parameter(0.02 * torch.randn(1, side * side, embed_dim))
        (rates,) = split_depths([depth], drop_path)
        self.stack = nn.ModuleList(_Block(embed_dim, side, mlp_ratio, rate, None) for rate in rates)
        self.norm = nn.LayerNorm(embed_dim, eps=1e-6)

    def published_key(self, key: str) -> str:
        """The names of the official code."""
        return _published(super().published_key(key))


@ENCODERS.add("gfnet_h", variants=_HIERARCHICAL)
class HierarchicalGFNet(StagedEncoder):
    """Four maps of strides 4, 8, 16 and 32.

    Args:
        in_chans: channels of the image.
        out_indices: which maps to return; None for all.
        normalisation: see `Encoder`.
        img_size: side of the images that positions and filters are made for, in pixels.
        dims: channels of the stages.
        depths: blocks of the stages.
        mlp_ratio: hidden width of the feed-forward networks, in channels; one number, or one for each stage.
        patch_size: side of a patch.
        layer_scale: first value of the learned factors of the branches; None: there are none (`no_layerscale`).
        drop_path: probability that the last block is dropped in training; less before it.
    """

    def __init__(
        self,
        in_chans: int = 3,
        out_indices: Sequence[int] | None = None,
        normalisation: Normalisation = "symmetric",
        img_size: int = 224,
        dims: Sequence[int] = (64, 128, 256, 512),
        depths: Sequence[int] = (3, 3, 10, 3),
        mlp_ratio: float | Sequence[float] = 4.0,
        patch_size: int = 4,
        layer_scale: float | None = 1e-3,
        drop_path: float = 0.0,
    ):
        super().__init__(
            in_chans,
            channels=dims,
            patch_px=patch_size,
            out_indices=out_indices,
            normalisation=normalisation,
        )
        widths = [in_chans, *dims]
        self.downsample_layers = nn.ModuleList(
            nn.Sequential(patch_projection(widths[i], widths[i + 1], 2 if i else patch_size)) for i in range(len(dims))
        )
        sides = [img_size // (patch_size << stage) for stage in range(len(dims))]
        self.pos_embed = nn.Parameter(0.02 * torch.randn(1, sides[0] ** 2, dims[0]))
        self.stages = nn.ModuleList(
            nn.Sequential(*(_Block(dim, side, ratio, rate, layer_scale) for rate in rates))
            for dim, side, rates, ratio in zip(
                dims, sides, split_depths(depths, drop_path), per_stage(mlp_ratio, len(dims)), strict=True
            )
        )

    def enter(self, number: int, x_BCHW: torch.Tensor) -> torch.Tensor:
        """Positions are added once, before the first stage."""
        return x_BCHW if number else with_table(x_BCHW, self.pos_embed)

    def published_key(self, key: str) -> str:
        """The names of the official code."""
        key = key.replace("stages.", "blocks.")
        if key.startswith("downsample_layers."):
            _, stage, _, rest = key.split(".")
            return f"patch_embed.{stage}.proj.{rest}"
        return _published(key)

    def head(self, num_classes: int) -> nn.Module:
        """One linear layer on the mean of the normed map."""
        return _Head(self._declared[-1][0], num_classes)


class _Head(nn.Module):
    def __init__(self, dim: int, num_classes: int):
        super().__init__()
        self.norm, self.head = nn.LayerNorm(dim, eps=1e-6), nn.Linear(dim, num_classes)

    def forward(self, features: Features) -> torch.Tensor:
        return self.head(self.norm(features.maps[-1].permute(0, 2, 3, 1)).mean(dim=(1, 2)))
