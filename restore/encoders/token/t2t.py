"""T2T-ViT: tokens of overlapping patches, gathered in three steps with attention between them, then a deep narrow ViT.

Yuan et al. 2021, arXiv 2101.11986. Official code: github.com/yitu-opensource/T2T-ViT (Clear BSD), whose keys are kept.
Here images may have any size and shape; positions are sinusoids as published, resampled bicubically.

B batch, H x W image, C channels, N tokens, m random features.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import nn

from restore.encoders.base import Normalisation
from restore.encoders.staged import split_depths
from restore.encoders.token.class_token import ClassTokenEncoder
from restore.layers.block import MetaFormerBlock
from restore.layers.exportable import ceil_divide, unflattened
from restore.layers.ffn import MLP
from restore.layers.mixers.attention.full import SelfAttention
from restore.layers.position import sinusoid_table
from restore.layers.precision import without_autocast
from restore.layers.tokens import Tokens
from restore.registry import ENCODERS

__all__ = ["T2TViT"]

_SIZES: dict[str, dict[str, Any]] = {
    "7": {"embed_dim": 256, "depth": 7, "num_heads": 4, "mlp_ratio": 2.0},
    "10": {"embed_dim": 256, "depth": 10, "num_heads": 4, "mlp_ratio": 2.0},
    "12": {"embed_dim": 256, "depth": 12, "num_heads": 4, "mlp_ratio": 2.0},
    "14": {"embed_dim": 384, "depth": 14, "num_heads": 6, "mlp_ratio": 3.0},
    "19": {"embed_dim": 448, "depth": 19, "num_heads": 7, "mlp_ratio": 3.0},
    "24": {"embed_dim": 512, "depth": 24, "num_heads": 8, "mlp_ratio": 3.0},
}
_SIZES |= {f"t_{size}": {**_SIZES[size], "tokens_type": "transformer"} for size in ("14", "19", "24")}


@ENCODERS.add("t2t_vit", variants=_SIZES)
class T2TViT(ClassTokenEncoder):
    """A map of stride 16 for each block.

    Args:
        in_chans: channels of the image.
        out_indices: which blocks' maps to return; None for the last three.
        normalisation: see `Encoder`.
        img_size: side of the images that positions are made for, in pixels.
        tokens_type: attention while tokens are gathered: "performer" is linear in their number, "transformer" exact.
        embed_dim: channels.
        depth: blocks.
        num_heads: attention heads.
        mlp_ratio: hidden width of the feed-forward networks, in channels.
        qkv_bias: whether queries, keys and values of the blocks have a bias.
        qk_scale: factor of the scores of the blocks; None: one over the square root of a head's channels.
        token_dim: channels while tokens are gathered.
        width_scale: scores divided by the square root of `embed_dim`, not of a head's channels: published weights need
            it, official trainings from random weights do not have it.
        drop_path: probability that the last block is dropped in training; less before it.
    """

    pos_embed: nn.Parameter

    def __init__(
        self,
        in_chans: int = 3,
        out_indices: Sequence[int] | None = None,
        normalisation: Normalisation = "symmetric",
        img_size: int = 224,
        tokens_type: Literal["performer", "transformer"] = "performer",
        embed_dim: int = 384,
        depth: int = 14,
        num_heads: int = 6,
        mlp_ratio: float = 3.0,
        qkv_bias: bool = False,
        qk_scale: float | None = None,
        token_dim: int = 64,
        width_scale: bool = False,
        drop_path: float = 0.0,
    ):
        super().__init__(
            in_chans,
            dim=embed_dim,
            num_blocks=depth,
            patch_px=16,
            img_size=img_size,
            out_indices=out_indices,
            normalisation=normalisation,
        )
        self.pos_embed = nn.Parameter(sinusoid_table(self.pos_embed.shape[1], embed_dim), requires_grad=False)
        self.patch_embed = _TokensToToken(in_chans, embed_dim, tokens_type, token_dim)
        (rates,) = split_depths([depth], drop_path)
        attention = _WidthScaled if width_scale else SelfAttention
        self.stack = nn.ModuleList(
            MetaFormerBlock(
                embed_dim,
                attention(embed_dim, num_heads, qkv_bias, qk_scale=qk_scale),
                MLP(embed_dim, mlp_ratio),
                drop_path=rate,
            )
            for rate in rates
        )

    def published_key(self, key: str) -> str:
        """The names of the official code."""
        return super().published_key(key).replace("patch_embed.", "tokens_to_token.")


class _WidthScaled(SelfAttention):
    """Scores are divided by the square root of all channels."""

    def queries_keys_values(self, tokens: Tokens) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Queries are less by the square root of the number of heads."""
        q, k, v = super().queries_keys_values(tokens)
        return q * self.num_heads**-0.5, k, v


class _TokensToToken(nn.Module):
    """(B, in_chans, H, W) to (B, dim, H / 16, W / 16), in steps of 4, 2 and 2."""

    def __init__(self, in_chans: int, dim: int, tokens_type: str, width: int):
        super().__init__()
        attention = _PerformerStep if tokens_type == "performer" else _TransformerStep
        self.attention1 = attention(in_chans * 7 * 7, width)
        self.attention2 = attention(width * 3 * 3, width)
        self.project = nn.Linear(width * 3 * 3, dim)

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        for size, stride, padding, step in (
            (7, 4, 2, self.attention1),
            (3, 2, 1, self.attention2),
            (3, 2, 1, self.project),
        ):
            height, width = (ceil_divide(side, stride) for side in x_BCHW.shape[2:])
            gathered_BNC = F.unfold(x_BCHW, size, stride=stride, padding=padding).transpose(1, 2)
            x_BCHW = unflattened(step(gathered_BNC).transpose(1, 2), 2, (height, width))
        return x_BCHW


class _TransformerStep(nn.Module):
    """Attention with one head from `dim` to `width` channels; its values are the shortcut."""

    def __init__(self, dim: int, width: int):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(width)
        self.attn = nn.ModuleDict({"qkv": nn.Linear(dim, 3 * width, bias=False), "proj": nn.Linear(width, width)})
        self.mlp = MLP(width, 1.0)
        self.scale = dim**-0.5

    def forward(self, x_BNC: torch.Tensor) -> torch.Tensor:
        q, k, v = self.attn["qkv"](self.norm1(x_BNC)).chunk(3, dim=-1)
        mixed = F.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None], scale=self.scale)[:, 0]
        x_BNC = v + self.attn["proj"](mixed)
        return x_BNC + self.mlp(self.norm2(x_BNC))


class _PerformerStep(nn.Module):
    """The same with attention by positive random features (Choromanski et al. 2020, arXiv 2009.14794)."""

    def __init__(self, dim: int, width: int):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(width)
        self.kqv, self.proj = nn.Linear(dim, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))
        num_features = width // 2
        directions = torch.empty(num_features, width)
        if not directions.is_meta:
            nn.init.orthogonal_(directions)
        self.w = nn.Parameter(directions * math.sqrt(num_features), requires_grad=False)

    def forward(self, x_BNC: torch.Tensor) -> torch.Tensor:
        k, q, v = self.kqv(self.norm1(x_BNC)).chunk(3, dim=-1)
        k_BNm, q_BNm = self._features(k), self._features(q)
        total_BN1 = q_BNm @ k_BNm.sum(dim=1)[:, :, None]
        mixed = q_BNm @ (k_BNm.transpose(1, 2) @ v.to(k_BNm.dtype)) / (total_BN1 + 1e-8)
        x_BNC = v + self.proj(mixed.to(v.dtype))
        return x_BNC + self.mlp(self.norm2(x_BNC))

    def _features(self, x_BNC: torch.Tensor) -> torch.Tensor:
        """exp(w x - |x|^2 / 2) / sqrt(m), in float32 or better."""
        exact = x_BNC if x_BNC.dtype == torch.float64 else x_BNC.float()
        with without_autocast(x_BNC):
            along = exact @ self.w.to(exact.dtype).T
            return torch.exp(along - exact.square().sum(dim=-1, keepdim=True) / 2) / math.sqrt(len(self.w))
