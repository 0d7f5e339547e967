"""CeiT: patches of a convolutional stem, feed-forward networks that look at neighbours, attention among class tokens.

Yuan et al. 2021, arXiv 2103.11816. Official code: github.com/coeusguo/ceit (Apache-2.0), whose keys are kept. Here
images may have any size. As in the official code, a class token passes the feed-forward network as its norm, so that
twice of it is not far from what comes out.

B batch, H x W image, C channels, N patches.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from restore.encoders.base import Normalisation
from restore.encoders.features import Features
from restore.encoders.staged import split_depths
from restore.encoders.token.class_token import ClassTokenEncoder
from restore.layers.arguments import require_odd
from restore.layers.ffn import MLP
from restore.layers.mixers.attention.full import SelfAttention
from restore.layers.patches import patch_projection
from restore.layers.residual import DropPath
from restore.layers.tokens import Tokens
from restore.registry import ENCODERS

__all__ = ["CeiT"]

_SIZES = {
    "tiny": {"embed_dim": 192, "num_heads": 3},
    "small": {"embed_dim": 384, "num_heads": 6},
    "base": {"embed_dim": 768, "num_heads": 12},
}


@ENCODERS.add("ceit", variants=_SIZES)
class CeiT(ClassTokenEncoder):
    """A map of one stride for each block. The first of the tokens is what attention among class tokens makes.

    Args:
        in_chans: channels of the image.
        out_indices: which blocks' maps to return; None for the last three.
        normalisation: see `Encoder`.
        img_size: side of the images that positions are made for, in pixels.
        patch_size: side of a patch, a multiple of 4; it is 4 times smaller on the map of the stem.
        stem_width: channels of the stem.
        stem_kernel_size: side of its convolution, odd.
        embed_dim: channels.
        depth: blocks.
        num_heads: attention heads.
        mlp_ratio: hidden width of the feed-forward networks, in channels.
        kernel_size: side of their convolutions, odd.
        batch_norm: whether each of their layers has one.
        qkv_bias: whether queries, keys and values have a bias.
        qk_scale: factor of the scores; None: one over the square root of a head's channels.
        norm_eps: of the norms.
        drop_path: probability that the last block is dropped in training; less before it.
    """

    def __init__(
        self,
        in_chans: int = 3,
        out_indices: Sequence[int] | None = None,
        normalisation: Normalisation = "symmetric",
        img_size: int = 224,
        patch_size: int = 16,
        stem_width: int = 64,
        stem_kernel_size: int = 7,
        embed_dim: int = 192,
        depth: int = 12,
        num_heads: int = 3,
        mlp_ratio: float = 4.0,
        kernel_size: int = 3,
        batch_norm: bool = True,
        qkv_bias: bool = True,
        qk_scale: float | None = None,
        norm_eps: float = 1e-6,
        drop_path: float = 0.0,
    ):
        require_odd(stem_kernel_size=stem_kernel_size)
        if patch_size < 4 or patch_size % 4:
            raise ValueError(
                f"patch_size is {patch_size}: it must be a multiple of 4, by which the stem reduces images"
            )
        super().__init__(
            in_chans,
            dim=embed_dim,
            num_blocks=depth,
            patch_px=patch_size,
            img_size=img_size,
            norm_eps=norm_eps,
            out_indices=out_indices,
            normalisation=normalisation,
        )
        self.patch_embed = _Stem(in_chans, embed_dim, stem_width, stem_kernel_size, patch_size // 4)
        self.pos_layer_embed = nn.Parameter(torch.zeros(1, depth, embed_dim))
        nn.init.trunc_normal_(self.pos_layer_embed, std=0.02)
        (rates,) = split_depths([depth], drop_path)
        self.stack = nn.ModuleList(
            _Block(
                SelfAttention(embed_dim, num_heads, qkv_bias, qk_scale=qk_scale),
                _LocalFeedForward(embed_dim, mlp_ratio, kernel_size, batch_norm),
                norm_eps,
                rate,
            )
            for rate in rates
        )
        self.lca: nn.Module = _LayerAttention(
            _LastAttention(embed_dim, num_heads, qkv_bias, qk_scale), MLP(embed_dim, mlp_ratio), norm_eps
        )

    def features(self, x_BCHW: torch.Tensor) -> Features:
        """One map for each block, and the tokens: first what the class tokens of all blocks come to."""
        tokens, maps, layers = self.embed(x_BCHW), [], []
        for block in self.stack:
            tokens = block(tokens)
            maps.append(tokens.map_BCHW())
            layers.append(tokens.prefix_BNC)
        last_B1C = self.lca(torch.cat(layers, dim=1) + self.pos_layer_embed)
        return Features(maps, tokens.with_values(self.norm(torch.cat([last_B1C, tokens.patches_BNC], dim=1))))

    def prune_to_maps(self) -> None:
        """Remove what only the class tokens need, too."""
        super().prune_to_maps()
        self.register_parameter("pos_layer_embed", None)
        self.lca = nn.Identity()

    def published_key(self, key: str) -> str:
        """The names of the official code."""
        return super().published_key(key).replace("patch_embed.", "i2t.")


class _Stem(nn.Module):
    def __init__(self, in_chans: int, dim: int, width: int, size: int, patch_px: int):
        super().__init__()
        self.backbone = nn.Sequential()
        self.backbone.add_module("conv", nn.Conv2d(in_chans, width, size, 2, size // 2, bias=False))
        self.backbone.add_module("bn", nn.BatchNorm2d(width))
        self.backbone.add_module("maxpool", nn.MaxPool2d(3, 2, 1))
        self.proj = patch_projection(width, dim, patch_px)

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        return self.proj(self.backbone(x_BCHW))


class _Block(nn.Module):
    def __init__(self, attention: SelfAttention, feed_forward: _LocalFeedForward, norm_eps: float, drop_path: float):
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(attention.dim, norm_eps), attention
        self.norm2, self.leff = nn.LayerNorm(attention.dim, norm_eps), feed_forward
        self.drop_path = DropPath(drop_path)

    def forward(self, tokens: Tokens) -> Tokens:
        attended = self.attn(tokens.with_values(self.norm1(tokens.x_BNC)))
        tokens = tokens.with_values(tokens.x_BNC + self.drop_path(attended))
        normed = tokens.with_values(self.norm2(tokens.x_BNC))
        changed = normed.with_map(self.leff(normed.map_BCHW()))
        return tokens.with_values(tokens.x_BNC + self.drop_path(changed.x_BNC))


class _LocalFeedForward(nn.Module):
    def __init__(self, dim: int, mlp_ratio: float, kernel_size: int, batch_norm: bool):
        super().__init__()
        require_odd(kernel_size=kernel_size)
        hidden = int(dim * mlp_ratio)
        self.bn1, self.bn2, self.bn3 = (
            nn.BatchNorm2d(width) if batch_norm else nn.Identity() for width in (hidden, hidden, dim)
        )
        self.conv1, self.conv3 = nn.Conv2d(dim, hidden, 1), nn.Conv2d(hidden, dim, 1)
        self.conv2 = nn.Conv2d(hidden, hidden, kernel_size, padding=kernel_size // 2, groups=hidden)

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        hidden = F.gelu(self.bn1(self.conv1(x_BCHW)))
        hidden = F.gelu(self.bn2(self.conv2(hidden)))
        return self.bn3(self.conv3(hidden))


class _LayerAttention(nn.Module):
    """The last class token attends to those of all blocks; (B, L, C) to (B, 1, C)."""

    def __init__(self, attention: _LastAttention, feed_forward: MLP, norm_eps: float):
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(feed_forward.dim, norm_eps), attention
        self.norm2, self.feedforward = nn.LayerNorm(feed_forward.dim, norm_eps), feed_forward

    def forward(self, layers_BLC: torch.Tensor) -> torch.Tensor:
        last_B1C = layers_BLC[:, -1:] + self.attn(self.norm1(layers_BLC))
        return last_B1C + self.feedforward(self.norm2(last_B1C))


class _LastAttention(nn.Module):
    def __init__(self, dim: int, num_heads: int, qkv_bias: bool, qk_scale: float | None):
        super().__init__()
        self.num_heads, self.qk_scale = num_heads, qk_scale
        self.qkv, self.proj = nn.Linear(dim, 3 * dim, bias=qkv_bias), nn.Linear(dim, dim)

    def forward(self, x_BLC: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(x_BLC).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        mixed_Bh1d = F.scaled_dot_product_attention(q[:, :, -1:], k, v, scale=self.qk_scale)
        return self.proj(mixed_Bh1d.transpose(1, 2).flatten(2))
