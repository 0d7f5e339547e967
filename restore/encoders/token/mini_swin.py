"""Mini-Swin: a Swin Transformer whose neighbouring blocks share their weights, but not norms and mixing of heads.

MiniViT, Zhang et al. 2022, arXiv 2204.07154. Official code: github.com/microsoft/Cream (`MiniViT`, MIT), whose keys are
kept. As there, each block has a convolution of its own, of the norm of the stream; the sum of both takes the place of
the stream. What differs here: the mask of shifted windows is not put on those that are not shifted, unless `compat` is
set, with which the published weights were trained; and images may have any size: maps are reflected to whole windows
inside the attention.

B batch, H x W map, C channels of a stage, W windows of all images (in WNC), N positions of a window, h heads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from restore.encoders.base import IMAGENET, Normalisation
from restore.encoders.heads import LinearHead
from restore.encoders.staged import PatchMerging, StagedEncoder, layers_key, normed_patches, split_depths, with_table
from restore.layers.branch import Branch
from restore.layers.ffn import MLP
from restore.layers.padding import crop, pad_to_multiple
from restore.layers.position_bias import RelativePositionBias
from restore.layers.residual import DropPath
from restore.layers.window import join_windows, split_windows, window_plan
from restore.registry import ENCODERS

__all__ = ["MiniSwin"]

_BASE: dict[str, Any] = {
    "embed_dim": 128,
    "depths": (2, 2, 18, 2),
    "num_heads": (4, 8, 16, 32),
    "num_shared": (2, 2, 2, 2),
}
_SIZES: dict[str, dict[str, Any]] = {
    "tiny": {},
    "small": {"depths": (2, 2, 18, 2), "num_shared": (2, 2, 2, 2)},
    "base": _BASE,
    "base_384": {**_BASE, "img_size": 384, "window_size": 12},
}


@ENCODERS.add("mini_swin", variants=_SIZES)
class MiniSwin(StagedEncoder):
    """Maps of strides 4, 8, 16 and 32.

    Args:
        in_chans: channels of the image.
        out_indices: which maps to return; None for all.
        normalisation: see `Encoder`.
        img_size: side of the images that the network is made for: where a map of theirs is no larger than a window,
            the window is the map, and no block of the stage is shifted.
        embed_dim: channels of the first stage; each further has twice as many.
        depths: times that blocks run in the stages.
        num_shared: how many of these in turn have the same weights, in each stage; divisors of `depths`.
        num_heads: attention heads of the stages.
        window_size: side of the windows.
        mlp_ratio: hidden width of the feed-forward networks, in channels.
        patch_size: side of a patch.
        qkv_bias: whether queries, keys and values have a bias, and the convolutions of blocks too.
        qk_scale: factor of the scores; None: one over the square root of a head's channels.
        positions: whether a learned table of them is added to the patches (`ape`).
        patch_norm: whether patches are normed.
        separate_norms: whether each run of a block has norms of its own (`is_sep_layernorm`).
        local_convs: whether it has a convolution of its own before the feed-forward network (`is_transform_FFN`).
        head_mixing: whether it has matrices over heads of its own (`is_transform_heads`).
        drop_path: probability that the last block is dropped in training; less before it.
        compat: mask windows that are not shifted like those that are.
    """

    derived_keys = ("relative_position_index", "attn_mask")

    def __init__(
        self,
        in_chans: int = 3,
        out_indices: Sequence[int] | None = None,
        normalisation: Normalisation = "symmetric",
        img_size: int = 224,
        embed_dim: int = 96,
        depths: Sequence[int] = (2, 2, 6, 2),
        num_shared: Sequence[int] = (2, 2, 6, 2),
        num_heads: Sequence[int] = (3, 6, 12, 24),
        window_size: int = 7,
        mlp_ratio: float = 4.0,
        patch_size: int = 4,
        qkv_bias: bool = True,
        qk_scale: float | None = None,
        positions: bool = False,
        patch_norm: bool = True,
        separate_norms: bool = True,
        local_convs: bool = True,
        head_mixing: bool = True,
        drop_path: float = 0.0,
        compat: bool = False,
    ):
        if any(depth % shared for depth, shared in zip(depths, num_shared, strict=True)):
            raise ValueError(f"each of depths {list(depths)} must be a multiple of its num_shared {list(num_shared)}")
        dims = [embed_dim << stage for stage in range(len(depths))]
        super().__init__(
            in_chans,
            channels=dims,
            patch_px=patch_size,
            out_indices=out_indices,
            normalisation=normalisation,
            weights_statistics=IMAGENET,
        )
        patches = normed_patches(in_chans, embed_dim, patch_px=patch_size, norm=patch_norm)
        self.absolute_pos_embed = None
        if positions:
            places = (img_size // patch_size) ** 2
            self.absolute_pos_embed = nn.Parameter(0.02 * torch.randn(1, places, embed_dim))
        self.separate_norms = separate_norms
        kind = _Kind(mlp_ratio, qkv_bias, separate_norms, local_convs, head_mixing)
        self.downsample_layers = nn.ModuleList([patches, *(PatchMerging(dim) for dim in dims[:-1])])
        self.stages = nn.ModuleList()
        for stage, rates in enumerate(split_depths(depths, drop_path)):
            side, blocks = img_size // (patch_size << stage), []
            for first in range(0, depths[stage], num_shared[stage]):
                attention = _WindowAttention(
                    dims[stage], num_heads[stage], min(window_size, side), shifts=side > window_size, compat=compat,
                    qkv_bias=qkv_bias, qk_scale=qk_scale,
                )  # fmt: skip
                shared_rates = rates[first : first + num_shared[stage]]
                blocks.append(_Block(attention, kind, shared_rates, shifted_first=first % 2 == 1))
            self.stages.append(nn.Sequential(*blocks))

    def enter(self, number: int, x_BCHW: torch.Tensor) -> torch.Tensor:
        """Positions are added once, before the first stage, where there are such."""
        return x_BCHW if number else with_table(x_BCHW, self.absolute_pos_embed)

    def published_key(self, key: str) -> str:
        """The names of the official code."""
        if key == "absolute_pos_embed":
            return key
        key = layers_key(key)
        for name in ("norm1", "norm2"):
            key = key if self.separate_norms else key.replace(f".{name}_list.0.", f".{name}.")
        return key

    def head(self, num_classes: int) -> nn.Module:
        """One linear layer on the mean of the normed map."""
        dim = self._declared[-1][0]
        return LinearHead(dim, num_classes, pooling="normed_map", norm=nn.LayerNorm(dim))


@dataclass(frozen=True)
class _Kind:
    """What blocks have."""

    mlp_ratio: float
    qkv_bias: bool
    separate_norms: bool
    local_convs: bool
    head_mixing: bool


class _Block(nn.Module):
    """One set of weights that runs as often as there are `rates` of dropping it, every second time with a shift."""

    def __init__(self, attention: _WindowAttention, kind: _Kind, rates: Sequence[float], shifted_first: bool):
        super().__init__()
        dim, num_heads, count = attention.dim, attention.num_heads, len(rates)
        num_norms = count if kind.separate_norms else 1
        self.norm1_list, self.norm2_list, self.local_norm_list = (
            nn.ModuleList(nn.LayerNorm(dim) for _ in range(number))
            for number in (num_norms, num_norms, count * kind.local_convs)
        )
        self.proj_l, self.proj_w = (
            nn.ModuleList(nn.Linear(num_heads, num_heads) for _ in range(count * kind.head_mixing)) for _ in range(2)
        )
        self.local_conv_list = nn.ModuleList(
            nn.Conv2d(dim, dim, 7, padding=3, groups=dim, bias=kind.qkv_bias) for _ in range(count * kind.local_convs)
        )
        self.attn, self.mlp = attention, MLP(dim, kind.mlp_ratio)
        self.drop_paths = nn.ModuleList(DropPath(rate) for rate in rates)
        self.shifted_first = shifted_first

    def forward(self, x_BHWC: torch.Tensor) -> torch.Tensor:
        """(B, H, W, C) to the same shape."""
        for number, drop_path in enumerate(self.drop_paths):
            mixing = (self.proj_l[number], self.proj_w[number]) if len(self.proj_l) else (None, None)
            norm1, norm2 = (norms[number % len(norms)] for norms in (self.norm1_list, self.norm2_list))
            shifted = (number % 2 == 1) != self.shifted_first
            x_BHWC = x_BHWC + drop_path(self.attn(norm1(x_BHWC), *mixing, shifted))
            if len(self.local_conv_list):
                x_BCHW = self.local_norm_list[number](x_BHWC).permute(0, 3, 1, 2)
                x_BHWC = (x_BCHW + self.local_conv_list[number](x_BCHW)).permute(0, 2, 3, 1)
            x_BHWC = x_BHWC + drop_path(self.mlp(norm2(x_BHWC)))
        return x_BHWC


class _WindowAttention(RelativePositionBias, Branch):
    """Attention inside windows, whose heads are mixed before and after softmax."""

    def __init__(
        self,
        dim: int,
        num_heads: int,
        window: int,
        *,
        shifts: bool,
        compat: bool,
        qkv_bias: bool = True,
        qk_scale: float | None = None,
    ):
        super().__init__(dim, halo_px=None)
        if dim % num_heads:
            raise ValueError(f"dim {dim} must be a multiple of num_heads {num_heads}")
        self.num_heads, self.window, self.shift, self.compat = num_heads, window, window // 2 * shifts, compat
        self.qkv, self.proj = nn.Linear(dim, 3 * dim, bias=qkv_bias), nn.Linear(dim, dim)
        self.scale = (dim // num_heads) ** -0.5 if qk_scale is None else qk_scale
        self.add_bias_table((window, window), num_heads)

    def forward(
        self, x_BHWC: torch.Tensor, before: nn.Linear | None, after: nn.Linear | None, shifted: bool
    ) -> torch.Tensor:
        """(B, H, W, C) to the same shape; `before` and `after` are linear maps of heads, or None for no mixing."""
        height, width = x_BHWC.shape[1:3]
        x_BHWC = pad_to_multiple(x_BHWC.permute(0, 3, 1, 2), self.window).permute(0, 2, 3, 1)
        masked_alone = self.compat and not shifted
        shift = self.shift if shifted or self.compat else 0
        if (
            masked_alone
        ):  # the plan moves the map, which is moved the other way before, and the mask is all that remains
            x_BHWC = x_BHWC.roll((shift, shift), (1, 2))
        B, H, W, _ = x_BHWC.shape
        plan = window_plan(B, H, W, (self.window, self.window), (shift, shift), x_BHWC.device)
        qkv_WNC, bias_hNN = self.qkv(split_windows(x_BHWC, plan)), self.position_bias()
        masks = [None] if plan.masks is None else plan.masks[:, :, None].unbind(0)
        groups = qkv_WNC.split(plan.counts) if len(plan.counts) > 1 else (qkv_WNC,)
        mixed = [self._mixed(qkv, bias_hNN, mask, before, after) for qkv, mask in zip(groups, masks, strict=True)]
        x_BHWC = join_windows(torch.cat(mixed), plan, x_BHWC.shape)
        if masked_alone:
            x_BHWC = x_BHWC.roll((-shift, -shift), (1, 2))
        return self.project(crop(x_BHWC.permute(0, 3, 1, 2), height, width).permute(0, 2, 3, 1))

    def _mixed(
        self,
        qkv_WNC: torch.Tensor,
        bias_hNN: torch.Tensor,
        mask: torch.Tensor | None,
        before: nn.Linear | None,
        after: nn.Linear | None,
    ) -> torch.Tensor:
        """(W, N, C) of windows that share a mask, or of all windows."""
        q, k, v = qkv_WNC.unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        scores = q @ k.transpose(-2, -1) * self.scale + bias_hNN.to(q.dtype)
        scores = scores if before is None else before(scores.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        scores = scores if mask is None else scores + mask.to(scores.dtype)
        weights = scores.softmax(dim=-1)
        weights = weights if after is None else after(weights.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return (weights @ v).transpose(1, 2).flatten(2)
