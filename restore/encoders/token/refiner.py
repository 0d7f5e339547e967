"""Refiner: a ViT whose attention maps go from block to block; every second block convolves the map and makes none.

Zhou et al. 2021, arXiv 2106.03714. Official code: github.com/zhoudaquan/Refiner_ViT (no licence: its keys and its facts
are kept, none of its text). As there, maps add up along the network, and each branch counts twice: it computes
x + 2 f(norm(x / 2)), which is the norm of x with four times its eps. Here images may have any size.

B batch, H x W image, C channels, N tokens, h heads.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from restore.encoders.base import HALF, Normalisation
from restore.encoders.heads import LinearHead
from restore.encoders.staged import split_depths
from restore.encoders.token.class_token import ClassTokenEncoder, ConvStem
from restore.encoders.token.lvvit import TokenLabelHead
from restore.layers.branch import Branch
from restore.layers.ffn import MLP
from restore.layers.mixers.attention.full import SelfAttention
from restore.layers.mixers.attention.refined import add_refinement, refined
from restore.layers.patches import linear_patches
from restore.layers.residual import DropPath, LayerScale
from restore.layers.tokens import Tokens
from restore.registry import ENCODERS

__all__ = ["Refiner"]

_SIZES = {
    "small": {},
    "medium": {"embed_dim": 420, "depth": 32},
    "large": {"embed_dim": 512, "depth": 32, "num_heads": 16},
}


@ENCODERS.add("refiner", variants=_SIZES)
class Refiner(ClassTokenEncoder):
    """A map of stride 16 for each block.

    Args:
        in_chans: channels of the image.
        out_indices: which blocks' maps to return; None for the last three.
        normalisation: see `Encoder`.
        img_size: side of the images that positions are made for, in pixels.
        patch_size: side of a patch.
        embed_dim: channels.
        depth: blocks.
        share: which blocks refine the attention map of the one before and have none of their own, true or false for
            each; None: every second one, from the second on.
        transform: which of the others refine their own map, true or false for each block (`apply_transform`); None:
            none.
        num_heads: attention heads.
        mlp_ratio: hidden width of the feed-forward networks, in channels.
        qkv_bias: whether queries, keys and values have a bias.
        qk_scale: factor of the scores, and of refined maps; None: one over the square root of a head's channels.
        expansion: maps that are convolved where a map of the block before is refined, in heads.
        head_expand: the same where a block refines its own.
        conv_stem: convolutions before the patches, or patches alone.
        dense: whether a classifier's head looks at every patch as well, or at the class token alone.
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
        embed_dim: int = 384,
        depth: int = 16,
        share: Sequence[bool] | None = None,
        transform: Sequence[bool] | None = None,
        num_heads: int = 12,
        mlp_ratio: float = 3.0,
        qkv_bias: bool = True,
        qk_scale: float | None = None,
        expansion: float = 3.0,
        head_expand: float = 3.0,
        conv_stem: bool = True,
        dense: bool = True,
        norm_eps: float = 1e-6,
        drop_path: float = 0.0,
    ):
        super().__init__(
            in_chans,
            dim=embed_dim,
            num_blocks=depth,
            patch_px=patch_size,
            img_size=img_size,
            norm_eps=norm_eps,
            out_indices=out_indices,
            normalisation=normalisation,
            weights_statistics=HALF,
        )
        shared = [number % 2 == 1 for number in range(depth)] if share is None else list(share)
        refining = [False] * depth if transform is None else list(transform)
        if not len(shared) == len(refining) == depth or shared[0]:
            raise ValueError(
                f"share {shared} and transform {refining} have one entry for each of {depth} blocks, and the first has "
                "a map of its own"
            )
        if conv_stem:
            self.patch_embed = ConvStem(in_chans, (32, 64, 128), embed_dim, patch_size)
        else:
            self.patch_embed = linear_patches(in_chans, embed_dim, patch_size)
        self.dense = dense
        (rates,) = split_depths([depth], drop_path)
        self.stack = nn.ModuleList(
            _Block(
                embed_dim,
                _Refining(embed_dim, num_heads, qkv_bias, qk_scale, expansion)
                if shared[number]
                else _Adding(embed_dim, num_heads, qkv_bias, qk_scale, head_expand if refining[number] else None),
                mlp_ratio,
                4 * norm_eps,
                rate,
            )
            for number, rate in enumerate(rates)
        )

    def _run(self, x_BCHW: torch.Tensor) -> tuple[list[torch.Tensor], Tokens]:
        tokens, passed, maps = self.embed(x_BCHW), None, []
        for block in self.stack:
            tokens, passed = block(tokens, passed)
            maps.append(tokens.map_BCHW())
        return maps, tokens

    def published_key(self, key: str) -> str:
        """The names of the official code."""
        return super().published_key(key).replace(".scale2.gamma", ".mlp.scale_channel")

    def head(self, num_classes: int) -> nn.Module:
        """Logits of the class token and, where it is dense, of the patches."""
        dim = self._declared[-1][0]
        return TokenLabelHead(dim, num_classes) if self.dense else LinearHead(dim, num_classes, pooling="tokens")


class _Block(nn.Module):
    """Tokens and the attention map that is passed on, to the same."""

    def __init__(self, dim: int, mixer: _Adding | _Refining, mlp_ratio: float, norm_eps: float, drop_path: float):
        super().__init__()
        self.norm1, self.mixer = nn.LayerNorm(dim, norm_eps), mixer
        self.norm2, self.ffn = nn.LayerNorm(dim, norm_eps), MLP(dim, mlp_ratio)
        self.scale2, self.drop_path = LayerScale(dim), DropPath(drop_path)

    def forward(self, tokens: Tokens, passed_BhNN: torch.Tensor | None) -> tuple[Tokens, torch.Tensor]:
        attended, passed_BhNN = self.mixer.attend(tokens.with_values(self.norm1(tokens.x_BNC)), passed_BhNN)
        x_BNC = tokens.x_BNC + self.drop_path(2 * attended)
        x_BNC = x_BNC + self.drop_path(2 * self.scale2(self.ffn(self.norm2(x_BNC))))
        return tokens.with_values(x_BNC), passed_BhNN


class _Adding(SelfAttention):
    """Attention whose map is the softmax of its scores, plus the map of the blocks before by the scale of scores.

    Where there is an expansion, the sum is refined.
    """

    def __init__(
        self, dim: int, num_heads: int, qkv_bias: bool, qk_scale: float | None, expansion: float | None = None
    ):
        super().__init__(dim, num_heads, qkv_bias, qk_scale=qk_scale)
        self.refines = expansion is not None
        if expansion is not None:
            add_refinement(self, num_heads, expansion)

    def attend(self, tokens: Tokens, passed_BhNN: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        """What goes to the residual sum, and the map for the next block."""
        map_BhNN, value_BhNd = self.map_and_values(tokens)
        if passed_BhNN is not None:
            map_BhNN = map_BhNN + passed_BhNN * self.scale_of_scores(value_BhNd)
        if self.refines:
            map_BhNN = refined(self, map_BhNN)
        return self.project((map_BhNN @ value_BhNd).transpose(1, 2).flatten(2)), map_BhNN


class _Refining(Branch):
    """Values of its own, summed by the refined map of the block before, which is passed on as it was."""

    def __init__(self, dim: int, num_heads: int, qkv_bias: bool, qk_scale: float | None, expansion: float):
        super().__init__(dim, halo_px=None)
        self.num_heads = num_heads
        self.factor = (dim // num_heads) ** -0.5 if qk_scale is None else qk_scale
        add_refinement(self, num_heads, expansion)
        self.qkv, self.proj = nn.Linear(dim, dim, bias=qkv_bias), nn.Linear(dim, dim)

    def attend(self, tokens: Tokens, passed_BhNN: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        """What goes to the residual sum, and the map for the next block."""
        assert passed_BhNN is not None
        value_BhNd = self.qkv(tokens.x_BNC).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
        map_BhNN = refined(self, passed_BhNN) * self.factor
        return self.project((map_BhNN @ value_BhNd).transpose(1, 2).flatten(2)), passed_BhNN
