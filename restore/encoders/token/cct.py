"""CCT, CVT and ViT-Lite: small transformers for small data, with convolutions before and pooling by attention after.

Hassani et al. 2021, arXiv 2104.05704. Official code: github.com/SHI-Labs/Compact-Transformers (Apache-2.0), whose keys
are kept. Here images may have any size.

B batch, H x W image, C channels, N patches.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from restore.encoders.base import Normalisation
from restore.encoders.features import Features
from restore.encoders.isotropic import TokenEncoder
from restore.encoders.staged import split_depths
from restore.layers.arguments import require_exact, require_odd
from restore.layers.mixers.attention.full import SelfAttention
from restore.layers.position import resampled_table, sinusoid_table
from restore.layers.residual import DropPath
from restore.layers.tokens import Tokens
from restore.registry import ENCODERS

__all__ = ["CCT", "SequencePooling"]

_BODY = {  # layers: (channels, heads, width of the feed-forward networks)
    2: {"depth": 2, "embed_dim": 128, "num_heads": 2, "mlp_ratio": 1.0},
    4: {"depth": 4, "embed_dim": 128, "num_heads": 2, "mlp_ratio": 1.0},
    6: {"depth": 6, "embed_dim": 256, "num_heads": 4, "mlp_ratio": 2.0},
    7: {"depth": 7, "embed_dim": 256, "num_heads": 4, "mlp_ratio": 2.0},
    14: {"depth": 14, "embed_dim": 384, "num_heads": 6, "mlp_ratio": 3.0},
}
_PATCHES = {"tokenizer": "patch", "num_convs": 1, "kernel_size": 4}
_CCT = {
    f"{layers}_{kernel}x{convs}": {**_BODY[layers], "kernel_size": kernel, "num_convs": convs, "img_size": size}
    for layers, kernel, convs, size in (
        *((2, 3, 2, 32), (4, 3, 2, 32), (6, 3, 1, 32), (6, 3, 2, 32), (7, 3, 1, 32), (7, 3, 2, 32)),
        *((7, 7, 2, 224), (14, 7, 2, 224)),
    )
}
_LITE = {f"{layers}_4": _BODY[layers] for layers in (2, 4, 6, 7)}


@ENCODERS.add("vit_lite", variants=_LITE, class_token=True, **_PATCHES)
@ENCODERS.add("cvt_lite", variants=_LITE, **_PATCHES)
@ENCODERS.add("cct", variants=_CCT)
class CCT(TokenEncoder):
    """A map of one stride for each block.

    Args:
        in_chans: channels of the image.
        out_indices: which blocks' maps to return; None for the last three.
        normalisation: see `Encoder`.
        img_size: side of the images that positions are made for, in pixels.
        kernel_size: side of the convolutions, or of a patch.
        num_convs: convolutions before the blocks.
        tokenizer: "conv": each convolution is followed by a maximum of stride 2; "patch": one patch for each token.
        stride: of the convolutions; None: by their side, as in the published networks.
        padding: zeros around the map for them; None: half their side, none for patches.
        pooling_size: side of the squares of the maxima.
        pooling_stride: their stride.
        pooling_padding: places around the map that are in none.
        embed_dim: channels.
        depth: blocks.
        num_heads: attention heads.
        mlp_ratio: hidden width of the feed-forward networks, in channels.
        class_token: whether there is one; without it tokens are pooled by attention.
        positions: whether they are added, as a learned table; "sine": as fixed sines and cosines.
        drop_path: probability that the last block is dropped in training; less before it.
    """

    def __init__(
        self,
        in_chans: int = 3,
        out_indices: Sequence[int] | None = None,
        normalisation: Normalisation = "symmetric",
        img_size: int = 32,
        kernel_size: int = 3,
        num_convs: int = 2,
        tokenizer: Literal["conv", "patch"] = "conv",
        stride: int | None = None,
        padding: int | None = None,
        pooling_size: int = 3,
        pooling_stride: int = 2,
        pooling_padding: int = 1,
        embed_dim: int = 128,
        depth: int = 2,
        num_heads: int = 2,
        mlp_ratio: float = 1.0,
        class_token: bool = False,
        positions: bool | Literal["sine"] = True,
        drop_path: float = 0.0,
    ):
        convolutional = tokenizer == "conv"
        if convolutional and padding is None:
            require_odd(kernel_size=kernel_size)
        if stride is None:
            stride = max(1, kernel_size // 2 - 1) if convolutional else kernel_size
        if padding is None:
            padding = max(1, kernel_size // 2) if convolutional else 0
        pooling = (pooling_size, pooling_stride, pooling_padding)
        require_exact("kernel", kernel_size, stride, padding)
        require_exact("pooling", *pooling)
        total = (stride * pooling_stride if convolutional else stride) ** num_convs
        super().__init__(
            in_chans,
            dim=embed_dim,
            num_blocks=depth,
            patch_px=total,
            out_indices=out_indices,
            normalisation=normalisation,
        )
        widths = [in_chans, *(64,) * (num_convs - 1), embed_dim]
        layers = []
        for before, after in pairwise(widths):
            conv = nn.Conv2d(before, after, kernel_size, stride, padding, bias=not convolutional)
            layers.append(nn.Sequential(conv, *([nn.ReLU(), nn.MaxPool2d(*pooling)] if convolutional else [])))
        self.tokenizer = nn.ModuleDict({"conv_layers": nn.Sequential(*layers)})
        self.num_prefix = int(class_token)
        if class_token:
            self.class_emb = nn.Parameter(torch.zeros(1, 1, embed_dim))
        self.positional_emb = None
        places = self.num_prefix + (img_size // total) ** 2
        if positions == "sine":
            self.positional_emb = nn.Parameter(sinusoid_table(places, embed_dim), requires_grad=False)
        elif positions:
            self.positional_emb = nn.Parameter(torch.zeros(1, places, embed_dim))
            nn.init.trunc_normal_(self.positional_emb, std=0.2)
        (rates,) = split_depths([depth], drop_path)
        self.stack = nn.ModuleList(_Block(embed_dim, num_heads, mlp_ratio, rate) for rate in rates)
        self.norm = nn.LayerNorm(embed_dim)

    def embed(self, x_BCHW: torch.Tensor) -> Tokens:
        """Tokens of the convolutions, with their positions."""
        map_BCHW = self.tokenizer["conv_layers"](x_BCHW)
        tokens = Tokens.of_map(map_BCHW.permute(0, 2, 3, 1))
        x_BNC = tokens.x_BNC
        if self.num_prefix:
            x_BNC = torch.cat([self.class_emb.expand(x_BNC.shape[0], -1, -1), x_BNC], dim=1)
        if self.positional_emb is not None:
            x_BNC = x_BNC + resampled_table(self.positional_emb, map_BCHW.shape[2:], self.num_prefix)
        return Tokens(x_BNC, tokens.grid, self.num_prefix)

    def block(self, block: nn.Module, tokens: Tokens) -> Tokens:
        """Blocks are given all that tokens know."""
        return block(tokens)

    def published_key(self, key: str) -> str:
        """The names of the official code."""
        key = super().published_key(key)
        return key if key.startswith("tokenizer.") else f"classifier.{key}"

    def head(self, num_classes: int) -> nn.Module:
        """One linear layer on the class token, or on what attention pools."""
        return _Head(self._declared[-1][0], num_classes, pooled=not self.num_prefix)


class SequencePooling(nn.Linear):
    """The mean of tokens, weighted by a softmax over them of one linear map; (B, N, C) to (B, C)."""

    def __init__(self, dim: int):
        super().__init__(dim, 1)

    def forward(self, tokens_BNC: torch.Tensor) -> torch.Tensor:
        """(B, C)."""
        weights_BN1 = super().forward(tokens_BNC).softmax(dim=1)
        return (weights_BN1 * tokens_BNC).sum(dim=1)


class _Head(nn.Module):
    def __init__(self, dim: int, num_classes: int, pooled: bool):
        super().__init__()
        self.classifier = nn.ModuleDict({"fc": nn.Linear(dim, num_classes)})
        if pooled:
            self.classifier["attention_pool"] = SequencePooling(dim)
        self.pooled = pooled

    def forward(self, features: Features) -> torch.Tensor:
        tokens = features.tokens
        assert tokens is not None
        pooled = self.classifier["attention_pool"](tokens.x_BNC) if self.pooled else tokens.x_BNC[:, 0]
        return self.classifier["fc"](pooled)


class _Block(nn.Module):
    """Attention after a norm; then the sum itself is normed, and the feed-forward network added to it."""

    def __init__(self, dim: int, num_heads: int, mlp_ratio: float, drop_path: float):
        super().__init__()
        hidden = int(dim * mlp_ratio)
        self.pre_norm, self.self_attn = nn.LayerNorm(dim), SelfAttention(dim, num_heads, qkv_bias=False)
        self.norm1 = nn.LayerNorm(dim)
        self.linear1, self.linear2 = nn.Linear(dim, hidden), nn.Linear(hidden, dim)
        self.drop_path = DropPath(drop_path)

    def forward(self, tokens: Tokens) -> Tokens:
        attended = self.self_attn(tokens.with_values(self.pre_norm(tokens.x_BNC)))
        x_BNC = self.norm1(tokens.x_BNC + self.drop_path(attended))
        return tokens.with_values(x_BNC + self.drop_path(self.linear2(F.gelu(self.linear1(x_BNC)))))
