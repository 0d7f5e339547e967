"""AFNO: a vision transformer that mixes tokens by a perceptron of their frequencies.

Guibas et al. 2021, arXiv 2111.13587. Official code: github.com/NVlabs/AFNO-transformer (non-commercial: CC-BY-NC-SA
4.0), of which nothing is used here but the names of the parameters. Images may have any size: positions are resampled
bicubically. The size is that of the published training command, with patches of 4 px. Checked against closed forms.

B batch, H x W image, C channels, N patches.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from restore.encoders.base import Normalisation
from restore.encoders.isotropic import MapBlocksEncoder
from restore.encoders.staged import split_depths
from restore.layers.ffn import MLP
from restore.layers.mixers.spectral.afno import AdaptiveFourierOperator
from restore.layers.patches import linear_patches
from restore.layers.residual import DropPath
from restore.registry import ENCODERS

__all__ = ["AFNO"]


@ENCODERS.add("afno")
class AFNO(MapBlocksEncoder):
    """A map of stride `patch_size` for each block.

    Args:
        in_chans: channels of the image.
        out_indices: which blocks' maps to return; None for the last three.
        normalisation: see `Encoder`.
        img_size: side of the images that positions are made for, in pixels.
        patch_size: side of a patch.
        embed_dim: channels.
        depth: blocks.
        num_blocks: of the matrices of a mixer, which are block-diagonal.
        sparsity: of the mixers; see `AdaptiveFourierOperator`.
        expansion: hidden channels of the mixers, in channels (`hidden_size_factor`).
        fraction: of the frequencies that they keep; see `AdaptiveFourierOperator` (`hard_thresholding_fraction`).
        double_skip: whether the mixer has a residual sum of its own, apart from that of the feed-forward network.
        mlp_ratio: hidden width of the feed-forward networks, in channels.
        drop_path: probability that the last block is dropped in training; less before it.
    """

    def __init__(
        self,
        in_chans: int = 3,
        out_indices: Sequence[int] | None = None,
        normalisation: Normalisation = "symmetric",
        img_size: int = 224,
        patch_size: int = 4,
        embed_dim: int = 256,
        depth: int = 12,
        num_blocks: int = 4,
        sparsity: float = 0.01,
        expansion: int = 1,
        fraction: float = 1.0,
        double_skip: bool = False,
        mlp_ratio: float = 4.0,
        drop_path: float = 0.0,
    ):
        super().__init__(
            in_chans,
            dim=embed_dim,
            num_blocks=depth,
            patch_px=patch_size,
            out_indices=out_indices,
            normalisation=normalisation,
        )
        self.patch_embed = linear_patches(in_chans, embed_dim, patch_size)
        self.pos_embed = nn.Parameter(0.02 * torch.randn(1, (img_size // patch_size) ** 2, embed_dim))
        (rates,) = split_depths([depth], drop_path)
        self.stack = nn.ModuleList(
            _Block(
                AdaptiveFourierOperator(embed_dim, num_blocks, sparsity, expansion, fraction),
                mlp_ratio,
                rate,
                double_skip,
            )
            for rate in rates
        )
        self.norm = nn.LayerNorm(embed_dim, eps=1e-6)

    def published_key(self, key: str) -> str:
        """The names of the official code."""
        key = super().published_key(key)
        return key.replace(".mixer.", ".filter.").replace(".ffn.", ".mlp.")


class _Block(nn.Module):
    """Mixer and feed-forward network on one branch, or on two; (B, H, W, C) to the same shape."""

    def __init__(self, mixer: AdaptiveFourierOperator, mlp_ratio: float, drop_path: float, double_skip: bool):
        super().__init__()
        self.norm1, self.mixer = nn.LayerNorm(mixer.dim, eps=1e-6), mixer
        self.norm2, self.ffn = nn.LayerNorm(mixer.dim, eps=1e-6), MLP(mixer.dim, mlp_ratio)
        self.drop_path, self.double_skip = DropPath(drop_path), double_skip

    def forward(self, x_BHWC: torch.Tensor) -> torch.Tensor:
        mixed_BHWC = self.mixer(self.norm1(x_BHWC))
        if self.double_skip:
            x_BHWC = mixed_BHWC = mixed_BHWC + x_BHWC
        return x_BHWC + self.drop_path(self.ffn(self.norm2(mixed_BHWC)))
