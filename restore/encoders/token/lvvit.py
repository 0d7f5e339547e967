"""LV-ViT: a ViT with a convolutional stem whose patch tokens have logits of their own.

Jiang et al. 2021, "All Tokens Matter", arXiv 2104.10858. Official code: github.com/zihangJiang/TokenLabeling
(Apache-2.0), whose keys are kept. Here images may have any size.

B batch, H x W image, C channels, N patches.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import nn

from restore.encoders.base import Normalisation
from restore.encoders.features import Features
from restore.encoders.heads import LinearHead
from restore.encoders.staged import split_depths
from restore.encoders.token.class_token import ClassTokenEncoder, ConvStem
from restore.layers.block import MetaFormerBlock
from restore.layers.build import build_norm
from restore.layers.ffn import MLP
from restore.layers.mixers.attention.full import SelfAttention
from restore.layers.patches import linear_patches
from restore.layers.residual import DropPath, FixedScale
from restore.layers.tokens import Tokens
from restore.registry import ENCODERS, NormOption

__all__ = ["LVViT", "TokenLabelHead"]

_SIZES: dict[str, dict[str, Any]] = {
    "tiny": {"embed_dim": 240, "depth": 12, "num_heads": 4, "skip_factor": 1.0},
    "small": {"embed_dim": 384, "depth": 16, "num_heads": 6},
    "medium": {"embed_dim": 512, "depth": 20, "num_heads": 8},
    "large": {"embed_dim": 768, "depth": 24, "num_heads": 12, "skip_factor": 3.0, "stem_width": 128},
}


@ENCODERS.add("lvvit", variants=_SIZES)
class LVViT(ClassTokenEncoder):
    """A map of stride 16 for each block.

    Args:
        in_chans: channels of the image.
        out_indices: which blocks' maps to return; None for the last three.
        normalisation: see `Encoder`.
        img_size: side of the images that positions are made for, in pixels.
        patch_size: side of a patch.
        embed_dim: channels.
        depth: blocks, where `order` does not name them.
        order: the blocks: "tr" both branches, "mha" attention alone, "ffn" the feed-forward network alone; None: all of
            them have both.
        num_heads: attention heads.
        mlp_ratio: hidden width of the feed-forward networks, in channels.
        qkv_bias: whether queries, keys and values have a bias.
        qk_scale: factor of the scores; None: one over the square root of a head's channels.
        head_dim: channels of a head; None: the heads divide `embed_dim` between them.
        skip_factor: what each branch is divided by.
        stem_width: channels of the stem; None: patches alone, as in a ViT.
        dense: whether a classifier's head looks at every patch as well, or at the class token alone.
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
        depth: int = 16,
        order: Sequence[Literal["tr", "mha", "ffn"]] | None = None,
        num_heads: int = 6,
        mlp_ratio: float = 3.0,
        qkv_bias: bool = False,
        qk_scale: float | None = None,
        head_dim: int | None = None,
        skip_factor: float = 2.0,
        stem_width: int | None = 64,
        dense: bool = True,
        drop_path: float = 0.0,
    ):
        kinds = ["tr"] * depth if order is None else list(order)
        super().__init__(
            in_chans,
            dim=embed_dim,
            num_blocks=len(kinds),
            patch_px=patch_size,
            img_size=img_size,
            out_indices=out_indices,
            normalisation=normalisation,
        )
        if stem_width is None:
            self.patch_embed = linear_patches(in_chans, embed_dim, patch_size)
        else:
            self.patch_embed = ConvStem(in_chans, (stem_width,) * 3, embed_dim, patch_size)
        (rates,) = split_depths([len(kinds)], drop_path)
        self.stack, self.dense = nn.ModuleList(), dense
        scaled_norm = {"type": "layer", "eps": 1e-5 / skip_factor**2}  # that of what is multiplied by the factor first
        for kind, rate in zip(kinds, rates, strict=True):
            if kind == "ffn":
                self.stack.append(_FeedForwardBlock(embed_dim, mlp_ratio, scaled_norm, skip_factor, rate))
                continue
            attention = SelfAttention(embed_dim, num_heads, qkv_bias, qk_scale=qk_scale, head_dim=head_dim)
            whole = kind == "tr"
            block = MetaFormerBlock(
                embed_dim,
                attention,
                MLP(embed_dim, mlp_ratio) if whole else None,
                norm="layer" if whole else scaled_norm,
                drop_path=rate,
            )
            block.scale1 = block.scale2 = FixedScale(1 / skip_factor)
            self.stack.append(block)

    def head(self, num_classes: int) -> nn.Module:
        """Logits of the class token and, where it is dense, of the patches."""
        dim = self._declared[-1][0]
        return TokenLabelHead(dim, num_classes) if self.dense else LinearHead(dim, num_classes, pooling="tokens")


class _FeedForwardBlock(nn.Module):
    """Tokens and what a feed-forward network makes of each."""

    def __init__(self, dim: int, mlp_ratio: float, norm: NormOption, skip_factor: float, drop_path: float):
        super().__init__()
        self.norm2, self.ffn = build_norm(norm, dim), MLP(dim, mlp_ratio)
        self.scale2, self.drop_path = FixedScale(1 / skip_factor), DropPath(drop_path)

    def forward(self, tokens: Tokens) -> Tokens:
        changed_BNC = self.scale2(self.ffn(self.norm2(tokens.x_BNC)))
        return tokens.with_values(tokens.x_BNC + self.drop_path(changed_BNC))


class TokenLabelHead(nn.Module):
    """Logits of the class token, plus half of the largest logit of any patch, class by class."""

    def __init__(self, dim: int, num_classes: int):
        super().__init__()
        self.head, self.aux_head = nn.Linear(dim, num_classes), nn.Linear(dim, num_classes)

    def forward(self, features: Features) -> torch.Tensor:
        """(B, num_classes)."""
        tokens = features.tokens
        assert tokens is not None
        return self.head(tokens.prefix_BNC[:, 0]) + 0.5 * self.aux_head(tokens.patches_BNC).amax(dim=1)
