"""PyramidTNT: patches are sentences of 4 x 4 words; attention among words inside patches, and among patches, in stages.

Han et al. 2022, arXiv 2201.00978. Official code: github.com/huawei-noah/Efficient-AI-Backbones (`tnt_pytorch`,
Apache-2.0), whose keys are kept. As there, the norms of words are over all words of a patch together, and what words
tell their patch is normed and never dropped. Here images may have any size: positions, and the table of scores of each
stage, are resampled bicubically; the published code takes images of `img_size` alone.

B batch, H x W map, C channels of patches, S patches of all images, c channels of words, h heads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import nn

from restore.encoders.base import HALF, Encoder, Normalisation
from restore.encoders.heads import LinearHead
from restore.encoders.staged import ChannelsFirstNorm, split_depths
from restore.layers.branch import Branch
from restore.layers.exportable import is_of_size, unflattened
from restore.layers.ffn import MLP
from restore.layers.padding import cut_squares, paste_squares
from restore.layers.position import resampled_table
from restore.layers.residual import DropPath
from restore.registry import ENCODERS

__all__ = ["PyramidTNT"]

_WORDS = 4  # rows and columns of the words of a patch


def _size(inner: int, depths: Sequence[int], img_size: int, heads: int, inner_heads: int) -> dict[str, Any]:
    return {
        "img_size": img_size,
        "dims": tuple(16 * inner * factor for factor in (1, 2, 4, 4)),
        "inner_dims": tuple(inner * factor for factor in (1, 2, 4, 4)),
        "depths": depths,
        "num_heads": tuple(heads * factor for factor in (1, 2, 4, 4)),
        "inner_heads": tuple(inner_heads * factor for factor in (1, 2, 4, 4)),
    }


_SIZES = {
    "tiny": _size(5, (2, 6, 3, 2), 192, 2, 1),
    "small": _size(8, (2, 8, 4, 2), 256, 4, 2),
    "medium": _size(12, (2, 8, 6, 2), 256, 4, 2),
    "base": _size(16, (2, 10, 6, 2), 256, 4, 2),
}


@ENCODERS.add("pyramid_tnt", variants=_SIZES)
class PyramidTNT(Encoder):
    """Maps of strides 8, 16, 32 and 64.

    Args:
        in_chans: channels of the image.
        out_indices: which maps to return; None for all.
        normalisation: see `Encoder`.
        img_size: side of the images that positions and scores are made for, in pixels; a multiple of 64.
        dims: channels of the patches of the stages.
        inner_dims: channels of their words.
        depths: blocks of the stages; words are attended to in the first alone, in the first two of more than six.
        num_heads: attention heads of the patches of the stages.
        inner_heads: attention heads of their words.
        reductions: of the stages: patches attend to means of squares of this side.
        mlp_ratio: hidden width of the feed-forward networks, in channels.
        qkv_bias: whether queries, keys and values have a bias.
        qk_scale: factor of the scores; None: one over the square root of the channels of a head.
        squeeze_excitation: whether the feed-forward network of patches adds what gates of its means let through (`se`).
        drop_path: probability that the last block is dropped in training; less before it.
    """

    def __init__(
        self,
        in_chans: int = 3,
        out_indices: Sequence[int] | None = None,
        normalisation: Normalisation = "symmetric",
        img_size: int = 192,
        dims: Sequence[int] = (80, 160, 320, 320),
        inner_dims: Sequence[int] = (5, 10, 20, 20),
        depths: Sequence[int] = (2, 6, 3, 2),
        num_heads: Sequence[int] = (2, 4, 8, 8),
        inner_heads: Sequence[int] = (1, 2, 4, 4),
        reductions: Sequence[int] = (4, 2, 1, 1),
        mlp_ratio: float = 4.0,
        qkv_bias: bool = False,
        qk_scale: float | None = None,
        squeeze_excitation: bool = False,
        drop_path: float = 0.0,
    ):
        strides = [8 << stage for stage in range(len(dims))]
        multiple = max(stride * reduction for stride, reduction in zip(strides, reductions, strict=True))
        if img_size % multiple:
            raise ValueError(f"img_size is {img_size}: it must be a multiple of {multiple}, so that every stage fits")
        super().__init__(
            in_chans,
            channels=dims,
            strides=strides,
            out_indices=out_indices,
            size_multiple=multiple,
            normalisation=normalisation,
            weights_statistics=HALF,
        )
        self.patch_embed = _Stem(in_chans, dims[0], inner_dims[0])
        self.outer_pos = nn.Parameter(torch.zeros(1, (img_size // 8) ** 2, dims[0]))
        self.inner_pos = nn.Parameter(torch.zeros(1, _WORDS**2, inner_dims[0]))
        for table in (self.outer_pos, self.inner_pos):
            nn.init.trunc_normal_(table, std=0.02)
        self.word_merges = nn.ModuleList(_Reduction(*pair) for pair in pairwise(inner_dims))
        self.sentence_merges = nn.ModuleList(_Reduction(*pair) for pair in pairwise(dims))
        kind = _Kind(mlp_ratio, qkv_bias, qk_scale, squeeze_excitation)
        self.stages = nn.ModuleList(
            _Stage(
                dims[i],
                inner_dims[i],
                (num_heads[i], inner_heads[i]),
                img_size // strides[i],
                reductions[i],
                kind,
                rates,
            )
            for i, rates in enumerate(split_depths(depths, drop_path))
        )

    def maps(self, x_BCHW: torch.Tensor) -> list[torch.Tensor]:
        """One map of patches for each stage."""
        words_SHWc, x_BCHW = self.patch_embed(x_BCHW)
        words_SHWc = words_SHWc + self.inner_pos.unflatten(1, (_WORDS, _WORDS))
        table_1CHW = unflattened(resampled_table(self.outer_pos, x_BCHW.shape[2:]), 1, x_BCHW.shape[2:])
        x_BCHW, maps = x_BCHW + table_1CHW.permute(0, 3, 1, 2), []
        for number, stage in enumerate(self.stages):
            if number:
                words_SHWc = self._merge_words(number - 1, words_SHWc, x_BCHW.shape[2:])
                x_BCHW = self.sentence_merges[number - 1](x_BCHW)
            words_SHWc, x_BHWC = stage(words_SHWc, x_BCHW.permute(0, 2, 3, 1))
            x_BCHW = x_BHWC.permute(0, 3, 1, 2)
            maps.append(x_BCHW)
        return maps

    def _merge_words(self, number: int, words_SHWc: torch.Tensor, grid: Sequence[int]) -> torch.Tensor:
        """The words of 2 x 2 patches are a picture of 8 x 8, which a convolution of stride 2 reduces to 4 x 4."""
        words_BHWc = paste_squares(words_SHWc, grid[0] * _WORDS, grid[1] * _WORDS)
        pictures_SHWc = cut_squares(words_BHWc, 2 * _WORDS)
        return self.word_merges[number](pictures_SHWc.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)

    def blocks(self) -> Sequence[nn.Module]:
        """The blocks of all stages."""
        return [block for stage in self.stages for block in cast(_Stage, stage).blocks]

    def prune_to_maps(self) -> None:
        """Remove the stages after the last chosen one."""
        super().prune_to_maps()
        kept = self.keep_maps()
        self.stages = self.stages[:kept]
        self.word_merges, self.sentence_merges = self.word_merges[: kept - 1], self.sentence_merges[: kept - 1]

    def head(self, num_classes: int) -> nn.Module:
        """One linear layer on the mean of the normed patches."""
        dim = self._declared[-1][0]
        return LinearHead(dim, num_classes, pooling="normed_map", norm=nn.LayerNorm(dim))


class _Reduction(nn.Module):
    """A norm, and a 3x3 convolution of stride 2: (B, C, H, W) to (B, C', H / 2, W / 2)."""

    def __init__(self, before: int, after: int):
        super().__init__()
        self.norm = ChannelsFirstNorm(before)
        self.conv = nn.Sequential(nn.Conv2d(before, after, 3, 2, 1))

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        return self.conv(self.norm(x_BCHW))


class _Stem(nn.Module):
    """(B, in_chans, H, W) to the words (S, 4, 4, c) and the patches (B, C, H / 8, W / 8)."""

    def __init__(self, in_chans: int, dim: int, inner_dim: int):
        super().__init__()

        def convs(widths: Sequence[int], strides: Sequence[int]) -> nn.Sequential:
            return nn.Sequential(
                *(
                    layer
                    for (before, after), stride in zip(pairwise(widths), strides, strict=True)
                    for layer in (nn.Conv2d(before, after, 3, stride, 1), nn.BatchNorm2d(after), nn.ReLU())
                )
            )

        shared = 2 * inner_dim
        self.common_conv = convs([in_chans, shared], [2])
        self.inner_convs = convs([shared, inner_dim], [1])
        self.outer_convs = convs([shared, 4 * inner_dim, 8 * inner_dim, dim], [2, 2, 1])

    def forward(self, x_BCHW: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x_BCHW = self.common_conv(x_BCHW)
        words_BHWc = self.inner_convs(x_BCHW).permute(0, 2, 3, 1)
        return cut_squares(words_BHWc, _WORDS), self.outer_convs(x_BCHW)


@dataclass(frozen=True)
class _Kind:
    """What all blocks have in common."""

    mlp_ratio: float
    qkv_bias: bool
    qk_scale: float | None
    squeeze_excitation: bool


class _Stage(nn.Module):
    """Words and patches to the same."""

    def __init__(
        self,
        dim: int,
        inner_dim: int,
        num_heads: tuple[int, int],
        grid_px: int,
        reduction: int,
        kind: _Kind,
        rates: Sequence[float],
    ):
        super().__init__()
        with_words = 2 if len(rates) > 6 else 1
        self.blocks = nn.ModuleList(
            _Block(dim, inner_dim if number < with_words else None, num_heads, reduction, kind, rate)
            for number, rate in enumerate(rates)
        )
        self.grids = (grid_px, grid_px), (grid_px // reduction, grid_px // reduction)
        self.relative_pos = nn.Parameter(torch.randn(1, num_heads[0], grid_px**2, (grid_px // reduction) ** 2))
        self.reduction = reduction

    def forward(self, words_SHWc: torch.Tensor, x_BHWC: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        scores_1hNM = self.scores(x_BHWC.shape[1:3])
        for block in self.blocks:
            words_SHWc, x_BHWC = block(words_SHWc, x_BHWC, scores_1hNM)
        return words_SHWc, x_BHWC

    def scores(self, size: Sequence[int]) -> torch.Tensor:
        """What is added to the scores of the patches of a map of this size: the table, resampled along both grids."""
        queries, keys = self.grids
        if is_of_size(size, queries):
            return self.relative_pos
        table_hNM = self.relative_pos[0]
        size_keys = [side // self.reduction for side in size]
        by_query = F.interpolate(table_hNM.unflatten(2, keys), size_keys, mode="bicubic").flatten(2)
        by_key = by_query.transpose(1, 2).unflatten(2, queries)
        return F.interpolate(by_key, tuple(size), mode="bicubic").flatten(2).transpose(1, 2)[None]


class _Block(nn.Module):
    """What words tell each other and their patch, where they do; then what patches tell each other."""

    def __init__(
        self,
        dim: int,
        inner_dim: int | None,
        num_heads: tuple[int, int],
        reduction: int,
        kind: _Kind,
        drop_path: float,
    ):
        super().__init__()
        self.inner_dim, self.drop_path = inner_dim, DropPath(drop_path)
        if inner_dim is not None:
            whole = _WORDS**2 * inner_dim
            self.inner_norm1, self.inner_norm2 = nn.LayerNorm(whole), nn.LayerNorm(whole)
            self.inner_attn = _Attention(inner_dim, num_heads[1], 1, kind)
            self.inner_mlp = MLP(inner_dim, kind.mlp_ratio)
            self.proj_norm1, self.proj_norm2 = nn.LayerNorm(whole), nn.LayerNorm(dim)
            self.proj = nn.Linear(whole, dim, bias=False)
        self.outer_norm1, self.outer_norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.outer_attn = _Attention(dim, num_heads[0], reduction, kind)
        self.outer_mlp = MLP(dim, kind.mlp_ratio)
        self.se_layer = _MeanGate(dim) if kind.squeeze_excitation else None

    def forward(
        self, words_SHWc: torch.Tensor, x_BHWC: torch.Tensor, scores_1hNM: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if self.inner_dim is not None:
            shape = words_SHWc.shape[1:]
            words_SW = words_SHWc.flatten(1)
            attended = self.inner_attn(unflattened(self.inner_norm1(words_SW), 1, shape))
            words_SW = words_SW + self.drop_path(attended.flatten(1))
            words_SW = words_SW + self.drop_path(
                self.inner_mlp(unflattened(self.inner_norm2(words_SW), 1, shape)).flatten(1)
            )
            told_SC = self.proj_norm2(self.proj(self.proj_norm1(words_SW)))
            x_BHWC = x_BHWC + told_SC.view(x_BHWC.shape)
            words_SHWc = unflattened(words_SW, 1, shape)
        x_BHWC = x_BHWC + self.drop_path(self.outer_attn(self.outer_norm1(x_BHWC), scores_1hNM))
        changed_BHWC = self.outer_mlp(self.outer_norm2(x_BHWC))
        if self.se_layer is not None:
            changed_BHWC = changed_BHWC + self.se_layer(changed_BHWC)
        return words_SHWc, x_BHWC + self.drop_path(changed_BHWC)


class _MeanGate(nn.Module):
    """Channels times a factor between -1 and 1, which two linear maps make of the means over the map."""

    def __init__(self, dim: int):
        super().__init__()
        hidden = dim // 4
        self.fc = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, hidden), nn.ReLU(), nn.Linear(hidden, dim), nn.Tanh())

    def forward(self, x_BHWC: torch.Tensor) -> torch.Tensor:
        """(B, H, W, C) to the same shape."""
        return self.fc(x_BHWC.mean(dim=(1, 2), keepdim=True)) * x_BHWC


class _Attention(Branch):
    """Attention of the positions of a map to its means of squares of side `reduction`."""

    def __init__(self, dim: int, num_heads: int, reduction: int, kind: _Kind):
        super().__init__(dim, halo_px=None)
        if dim % num_heads:
            raise ValueError(f"dim {dim} must be a multiple of num_heads {num_heads}")
        self.num_heads, self.reduction, self.qk_scale = num_heads, reduction, kind.qk_scale
        self.q, self.kv = nn.Linear(dim, dim, bias=kind.qkv_bias), nn.Linear(dim, 2 * dim, bias=kind.qkv_bias)
        self.proj = nn.Linear(dim, dim)
        if reduction > 1:
            self.linear, self.norm = nn.Linear(dim, dim), nn.LayerNorm(dim)

    def forward(self, x_BHWC: torch.Tensor, scores_1hNM: torch.Tensor | None = None) -> torch.Tensor:
        """(B, H, W, C) to the same shape."""
        seen_BHWC = x_BHWC
        if self.reduction > 1:
            means_BCHW = F.avg_pool2d(x_BHWC.permute(0, 3, 1, 2), self.reduction)
            seen_BHWC = self.norm(self.linear(means_BCHW.permute(0, 2, 3, 1)))
        q = self.q(x_BHWC).flatten(1, 2).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
        k, v = self.kv(seen_BHWC).flatten(1, 2).unflatten(-1, (2, self.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        mask = None if scores_1hNM is None else scores_1hNM.to(q.dtype)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=self.qk_scale)
        return self.project(mixed.transpose(1, 2).reshape(x_BHWC.shape))
