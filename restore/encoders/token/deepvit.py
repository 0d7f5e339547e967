"""DeepViT: a ViT whose last blocks mix the attention maps of their heads.

Zhou et al. 2021, arXiv 2103.11886. Official code: github.com/zhoudaquan/dvit_repo (MIT), whose keys are kept. Here
images may have any size. Where it computes x + 2 f(norm(x / 2)), the norm of x with four times its eps is the same.

B batch, H x W image, C channels, N patches.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from restore.encoders.base import Normalisation
from restore.encoders.staged import split_depths
from restore.encoders.token.class_token import ClassTokenEncoder, ConvStem
from restore.layers.block import MetaFormerBlock
from restore.layers.ffn import MLP
from restore.layers.mixers.attention.full import SelfAttention
from restore.layers.mixers.attention.reattention import ReAttention
from restore.layers.patches import linear_patches
from restore.layers.residual import FixedScale
from restore.registry import ENCODERS

__all__ = ["DeepViT"]

_PLAIN = {"embed_dim": 384, "conv_stem": False, "doubled": False, "scaled": False}
_SIZES = {
    "small": {"embed_dim": 396, "depth": 16, "num_reattention": 5},
    "large": {"embed_dim": 420, "depth": 32, "num_reattention": 12, "scaled": False},
    **{f"{depth}b": {**_PLAIN, "depth": depth, "num_reattention": depth} for depth in (16, 24, 32)},
}


@ENCODERS.add("deepvit", variants=_SIZES)
class DeepViT(ClassTokenEncoder):
    """A map of stride 16 for each block.

    Args:
        in_chans: channels of the image.
        out_indices: which blocks' maps to return; None for the last three.
        normalisation: see `Encoder`.
        img_size: side of the images that positions are made for, in pixels.
        patch_size: side of a patch.
        embed_dim: channels.
        depth: blocks.
        num_reattention: how many of the last blocks mix the maps of their heads; or the places of those that do,
            counted from 0 (`apply_transform`).
        num_heads: attention heads.
        mlp_ratio: hidden width of the feed-forward networks, in channels.
        qkv_bias: whether queries, keys and values have a bias.
        qk_scale: factor of the scores; None: one over the square root of a head's channels.
        conv_stem: convolutions before the patches, or patches alone.
        doubled: twice each branch, as the published S and L have it (`scale_adjustment` 0.5); or another factor.
        scaled: see `ReAttention`.
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
        embed_dim: int = 396,
        depth: int = 16,
        num_reattention: int | Sequence[int] = 5,
        num_heads: int = 12,
        mlp_ratio: float = 3.0,
        qkv_bias: bool = True,
        qk_scale: float | None = None,
        conv_stem: bool = True,
        doubled: bool | float = True,
        scaled: bool = True,
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
        )
        if conv_stem:
            self.patch_embed = ConvStem(in_chans, (64, 64), embed_dim, patch_size)
        else:
            self.patch_embed = linear_patches(in_chans, embed_dim, patch_size)
        (rates,) = split_depths([depth], drop_path)
        factor = 1.0 + doubled if isinstance(doubled, bool) else doubled
        last = range(depth)[-num_reattention:] if isinstance(num_reattention, int) and num_reattention else ()
        mixing = {*(last if isinstance(num_reattention, int) else num_reattention)}
        if mixing - {*range(depth)}:
            raise ValueError(f"num_reattention is {num_reattention}: there are {depth} blocks, from 0 to {depth - 1}")
        self.stack = nn.ModuleList(
            MetaFormerBlock(
                embed_dim,
                ReAttention(embed_dim, num_heads, qkv_bias, scaled, qk_scale=qk_scale)
                if number in mixing
                else SelfAttention(embed_dim, num_heads, qkv_bias, qk_scale=qk_scale),
                MLP(embed_dim, mlp_ratio),
                norm={"type": "layer", "eps": norm_eps * factor**2},
                drop_path=rate,
            )
            for number, rate in enumerate(rates)
        )
        if factor != 1:
            for block in self.stack:
                block.scale1 = block.scale2 = FixedScale(factor)
