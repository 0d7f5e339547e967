"""FlexiViT: a ViT for patches of any size, trained with one drawn at random in each step.

Beyer et al. 2023, arXiv 2212.08013. Official code: github.com/google-research/big_vision (Apache-2.0, JAX); keys are
those of the same networks in timm, whose weights load with `stored_patch_px: 16, stored_grid: 15`. Checked against
timm. In evaluation the patch is an argument: small ones for quality, large ones for speed, with the same weights.

B batch, H x W image, C channels, N patches.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from restore.encoders.base import HALF, Normalisation
from restore.encoders.staged import split_depths
from restore.encoders.token.class_token import ClassTokenEncoder
from restore.layers.block import MetaFormerBlock
from restore.layers.ffn import MLP
from restore.layers.flexible_patches import FlexiblePatches, Interpolation
from restore.layers.mixers.attention.full import SelfAttention
from restore.layers.position import resampled_table
from restore.layers.tokens import Tokens
from restore.registry import ENCODERS

__all__ = ["FlexiViT"]

_SIZES = {
    "small": {},
    "base": {"embed_dim": 768, "num_heads": 12},
    "large": {"embed_dim": 1024, "depth": 24, "num_heads": 16},
}


@ENCODERS.add("flexivit", variants=_SIZES)
class FlexiViT(ClassTokenEncoder):
    """A map of stride `patch_size` for each block.

    In training each call draws a size of patches; maps are then resampled (bilinearly) to the stride that is declared.

    Args:
        in_chans: channels of the image.
        out_indices: which blocks' maps to return; None for the last three.
        normalisation: see `Encoder`.
        patch_size: side of a patch in evaluation, and the stride of the maps.
        patch_sizes: sides that are drawn from in training; empty for `patch_size` always.
        stored_patch_px: side of the patches that the weights are of; all others are made of these.
        stored_grid: rows and columns of the table of positions, which is resampled bilinearly.
        interpolation: what resizing of patches the weights are to make up for: "bilinear" as the official code has it,
            "bicubic", with a low-pass filter, as timm has it.
        embed_dim: channels.
        depth: blocks.
        num_heads: attention heads.
        mlp_ratio: hidden width of the feed-forward networks, in channels.
        drop_path: probability that the last block is dropped in training; less before it.
    """

    cls_token: nn.Parameter
    pos_embed: nn.Parameter

    def __init__(
        self,
        in_chans: int = 3,
        out_indices: Sequence[int] | None = None,
        normalisation: Normalisation = "symmetric",
        patch_size: int = 16,
        patch_sizes: Sequence[int] = (8, 10, 12, 15, 16, 20, 24, 30, 40, 48),
        stored_patch_px: int = 32,
        stored_grid: int = 7,
        interpolation: Interpolation = "bilinear",
        embed_dim: int = 384,
        depth: int = 12,
        num_heads: int = 6,
        mlp_ratio: float = 4.0,
        drop_path: float = 0.0,
    ):
        super().__init__(
            in_chans,
            dim=embed_dim,
            num_blocks=depth,
            patch_px=patch_size,
            img_size=None,
            norm_eps=1e-6,
            out_indices=out_indices,
            normalisation=normalisation,
            weights_statistics=HALF,
        )
        self.patch_size, self.patch_sizes = patch_size, tuple(patch_sizes)
        self.pos_embed = nn.Parameter(torch.zeros(1, stored_grid**2, embed_dim))
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        self.patch_embed = FlexiblePatches(in_chans, embed_dim, stored_patch_px, patch_size, patch_sizes, interpolation)
        (rates,) = split_depths([depth], drop_path)
        self.stack = nn.ModuleList(
            MetaFormerBlock(
                embed_dim,
                SelfAttention(embed_dim, num_heads),
                MLP(embed_dim, mlp_ratio),
                norm={"type": "layer", "eps": 1e-6},
                drop_path=rate,
            )
            for rate in rates
        )

    def embed(self, x_BCHW: torch.Tensor) -> Tokens:
        """The class token, which has no position, and patches of `patch_size` with theirs."""
        return self._with_positions(self.patch_embed(x_BCHW))

    def _with_positions(self, patches_BCHW: torch.Tensor) -> Tokens:
        size = patches_BCHW.shape[2:]
        table_1NC = resampled_table(self.pos_embed, size, mode="bilinear", antialias=True)
        patches_BNC = patches_BCHW.flatten(2).transpose(1, 2) + table_1NC
        x_BNC = torch.cat([self.cls_token.expand(patches_BNC.shape[0], -1, -1), patches_BNC], dim=1)
        return Tokens(x_BNC, (size[0], size[1]), 1)

    def _run(self, x_BCHW: torch.Tensor) -> tuple[list[torch.Tensor], Tokens]:
        if not (self.training and self.patch_sizes):
            return super()._run(x_BCHW)
        drawn = self.patch_sizes[int(torch.randint(len(self.patch_sizes), ()))]
        maps, tokens = self.run_blocks(self._with_positions(self.patch_embed(x_BCHW, drawn)))
        size = [side // self.patch_size for side in x_BCHW.shape[2:]]
        return [resampled_map(each, size, self.patch_size / drawn) for each in maps], tokens


def resampled_map(map_BCHW: torch.Tensor, size: Sequence[int], step: float) -> torch.Tensor:
    """A map of this size whose positions are `step` positions of the given one apart; both begin at the same corner."""
    if step == 1 and tuple(map_BCHW.shape[2:]) == tuple(size):
        return map_BCHW
    rows, columns = (
        (torch.arange(count, device=map_BCHW.device, dtype=map_BCHW.dtype) + 0.5) * step * 2 / places - 1
        for count, places in zip(size, map_BCHW.shape[2:], strict=True)
    )
    places_BHW2 = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1).expand(
        map_BCHW.shape[0], -1, -1, -1
    )
    return F.grid_sample(map_BCHW, places_BHW2, padding_mode="border", align_corners=False)
