"""Encoders of several stages: before each a layer that reduces the map, in it blocks that keep its size.

    class MyEncoder(StagedEncoder):
        def __init__(self, in_chans=3, out_indices=None, normalisation="symmetric", dims=(64, 128)):
            super().__init__(in_chans, channels=dims, out_indices=out_indices, normalisation=normalisation)
            self.downsample_layers = nn.ModuleList(...)     # (B, C, H, W) to (B, C', H / s, W / s)
            self.stages = nn.ModuleList(nn.Sequential(...)) # blocks on channels-last maps, which keep size and width

The map of a stage is what its last block gives.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import torch
from torch import nn

from restore.encoders.base import Encoder, Normalisation, Statistics
from restore.layers.exportable import unflattened
from restore.layers.patches import patch_projection
from restore.layers.position import resampled_table

__all__ = [
    "ChannelsFirstNorm",
    "PatchMerging",
    "StagedEncoder",
    "conv_reductions",
    "layers_key",
    "norm_reductions",
    "normed_patches",
    "per_stage",
    "split_depths",
    "with_table",
]


class ChannelsFirstNorm(nn.LayerNorm):
    """A LayerNorm over the channels of each position of (B, C, H, W)."""

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """The same shape."""
        return super().forward(x_BCHW.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class PatchMerging(nn.Module):
    """Four positions become one of twice the channels: a norm and a linear map (Swin Transformer, arXiv 2103.14030).

    Args:
        dim: channels of the map, whose sides are even.
        bias: of the linear map.
        by_rows: the four stand in the order of reading, instead of column by column as in Swin Transformer.
        out_dim: channels of what comes out, where these are not twice as many.
    """

    def __init__(self, dim: int, bias: bool = False, by_rows: bool = False, out_dim: int | None = None):
        super().__init__()
        self.norm, self.reduction = nn.LayerNorm(4 * dim), nn.Linear(4 * dim, out_dim or 2 * dim, bias=bias)
        self.by_rows = by_rows

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) to (B, 2 C or `out_dim`, H / 2, W / 2)."""
        places = [(0, 0), (0, 1), (1, 0), (1, 1)] if self.by_rows else [(0, 0), (1, 0), (0, 1), (1, 1)]
        four_BCHW = torch.cat([x_BCHW[:, :, row::2, column::2] for row, column in places], dim=1)
        return self.reduction(self.norm(four_BCHW.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)


class StagedEncoder(Encoder):
    """Base of hierarchical encoders. A subclass sets `downsample_layers` and `stages`.

    Args:
        in_chans: channels of the image.
        channels: of the maps of the stages.
        patch_px: stride of the first stage; each further one halves the map.
        out_indices: which stages' maps to return; None for all.
        normalisation: see `Encoder`.
        size_multiple: see `Encoder`; None for the stride of the last stage.
        tile_px: see `Encoder`.
        weights_statistics: see `Encoder`.
    """

    downsample_layers: nn.ModuleList
    stages: nn.ModuleList

    def __init__(
        self,
        in_chans: int,
        *,
        channels: Sequence[int],
        patch_px: int = 4,
        out_indices: Sequence[int] | None = None,
        normalisation: Normalisation = "symmetric",
        size_multiple: int | None = None,
        tile_px: int | None = None,
        weights_statistics: Statistics | None = None,
    ):
        strides = tuple(patch_px << stage for stage in range(len(channels)))
        super().__init__(
            in_chans,
            channels=channels,
            strides=strides,
            out_indices=out_indices,
            size_multiple=size_multiple or tile_px or strides[-1],
            tile_px=tile_px,
            normalisation=normalisation,
            weights_statistics=weights_statistics,
        )

    def blocks(self) -> Sequence[nn.Module]:
        """The blocks of all stages."""
        return [block for stage in self.stages for block in stage.children()]

    def maps(self, x_BCHW: torch.Tensor) -> list[torch.Tensor]:
        """One map for each stage."""
        maps = []
        for number, (reduce, stage) in enumerate(zip(self.downsample_layers, self.stages, strict=True)):
            x_BCHW = self.enter(number, reduce(x_BCHW))
            x_BCHW = stage(x_BCHW.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
            maps.append(x_BCHW)
        return maps

    def enter(self, number: int, x_BCHW: torch.Tensor) -> torch.Tensor:
        """What the first block of stage `number` is given: what reduction gave, and positions where there are such."""
        return x_BCHW

    def prune_to_maps(self) -> None:
        """Remove the stages after the last chosen one."""
        super().prune_to_maps()
        self.keep_maps()
        self.downsample_layers = self.downsample_layers[: self.num_maps]
        self.stages = self.stages[: self.num_maps]


def normed_patches(in_chans: int, dim: int, eps: float = 1e-5, patch_px: int = 4, norm: bool = True) -> nn.Sequential:
    """Patches and a norm: the stem of Swin Transformer, and with an eps of 1e-6 that of ConvNeXt."""
    patches = patch_projection(in_chans, dim, patch_px)
    return nn.Sequential(patches, ChannelsFirstNorm(dim, eps=eps)) if norm else nn.Sequential(patches)


def with_table(x_BCHW: torch.Tensor, table_1NC: torch.Tensor | None) -> torch.Tensor:
    """The map with a learned table of positions, resampled where it is of another size; None: as it is."""
    if table_1NC is None:
        return x_BCHW
    resampled_1NC = resampled_table(table_1NC, x_BCHW.shape[2:])
    return x_BCHW + unflattened(resampled_1NC, 1, x_BCHW.shape[2:]).permute(0, 3, 1, 2)


def norm_reductions(dims: Sequence[int]) -> list[nn.Sequential]:
    """ConvNeXt's layers between stages: a norm and a 2x2 convolution of stride 2."""
    return [
        nn.Sequential(ChannelsFirstNorm(before, eps=1e-6), patch_projection(before, after, 2))
        for before, after in pairwise(dims)
    ]


def conv_reductions(in_chans: int, dims: Sequence[int]) -> list[nn.Sequential]:
    """MetaFormer's: a 7x7 convolution of stride 4 and a norm, then norms and 3x3 convolutions of stride 2."""
    first = _reduction(in_chans, dims[0], 7, 4, 2, "post_norm")
    return [first, *(_reduction(before, after, 3, 2, 1, "pre_norm") for before, after in pairwise(dims))]


def _reduction(before: int, after: int, size: int, stride: int, padding: int, norm: str) -> nn.Sequential:
    """A convolution, with a norm without bias before or after it."""
    layers = {
        "pre_norm": ChannelsFirstNorm(before, eps=1e-6, bias=False),
        "conv": nn.Conv2d(before, after, size, stride, padding),
        "post_norm": ChannelsFirstNorm(after, eps=1e-6, bias=False),
    }
    reduction = nn.Sequential()
    for name, layer in layers.items():
        if name in ("conv", norm):
            reduction.add_module(name, layer)
    return reduction


def split_depths(depths: Sequence[int], drop_path: float) -> list[list[float]]:
    """Probabilities of dropping a branch, growing evenly from 0 to `drop_path` over all blocks, stage by stage."""
    total = sum(depths)
    rates = iter([drop_path * number / max(total - 1, 1) for number in range(total)])
    return [[next(rates) for _ in range(depth)] for depth in depths]


def per_stage(value: float | Sequence[float], num_stages: int) -> list[float]:
    """A number for each stage: the one given for all, or as many as there are stages.

    Raises:
        ValueError: there are more, or less.
    """
    values = [value] * num_stages if isinstance(value, (int, float)) else list(value)
    if len(values) != num_stages:
        raise ValueError(f"{values} has {len(values)} numbers: give one for all {num_stages} stages, or one for each")
    return values


def layers_key(key: str, block_key: Callable[[str], str] = str) -> str:
    """The published name of a key where blocks and the reduction after them stand in a stage of a list called `layers`.

    So it is in Swin Transformer: stage i is `layers.i.blocks`, the reduction before it `layers.(i - 1).downsample`, and
    before the first stage stand `normed_patches` as `patch_embed`.

    Args:
        key: of a `StagedEncoder` whose reductions are single layers.
        block_key: what the rest of a key is called there, after the number of the block.
    """
    kind, stage, rest = key.split(".", 2)
    if kind == "stages":
        block, _, rest = rest.partition(".")
        return f"layers.{stage}.blocks.{block}.{block_key(rest)}"
    if stage == "0":
        return f"patch_embed.{'proj' if rest.startswith('0.') else 'norm'}.{rest[2:]}"
    return f"layers.{int(stage) - 1}.downsample.{rest}"


def network_key(key: str, renamed: Mapping[str, str]) -> str:
    """The published name of a key where stages and reductions stand in turn in a list called `network`.

    So it is in PoolFormer and what follows it: stage i is `network.2i`, the reduction before it `network.(2i - 1)`, and
    before the first stage stands `patch_embed`; the layer of a reduction is `proj`.

    Args:
        key: of a `StagedEncoder` whose reductions are single layers.
        renamed: what parts of a block are called there, by their names here.
    """
    kind, _, rest = key.partition(".")
    number, _, rest = rest.partition(".")
    if kind == "downsample_layers":
        return f"network.{2 * int(number) - 1}.proj.{rest}" if int(number) else f"patch_embed.proj.{rest}"
    if kind != "stages":
        return key
    block, _, rest = rest.partition(".")
    own = next((name for name in renamed if rest.startswith(name)), "")
    return f"network.{2 * int(number)}.{block}.{renamed.get(own, '')}{rest.removeprefix(own)}"
