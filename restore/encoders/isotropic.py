"""Encoders of one stride whose blocks work on tokens: ViT and its many relatives.

    class MyViT(TokenEncoder):
        def __init__(self, in_chans=3, out_indices=None, normalisation="symmetric", embed_dim=192, depth=12):
            super().__init__(in_chans, dim=embed_dim, num_blocks=depth, patch_px=16, out_indices=out_indices,
                             normalisation=normalisation)
            self.patch_embed, self.cls_token = ...
            self.stack = nn.ModuleList(...)         # `blocks.` in published weights
            self.norm = nn.LayerNorm(embed_dim)

        def embed(self, x_BCHW): return Tokens(x_BNC, grid=(H // 16, W // 16), num_prefix=1)

There is a map for each block, and by default the last three are given, as timm does; they are the patch tokens after
that block, before the last norm. The tokens of `encode` are those of the last block after the last norm.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import nn

from restore.encoders.base import Encoder, Normalisation, Statistics
from restore.encoders.features import Features
from restore.encoders.heads import LinearHead
from restore.layers.position import resampled_table
from restore.layers.tokens import Tokens

__all__ = ["MapBlocksEncoder", "TokenEncoder"]


class TokenEncoder(Encoder):
    """Base of isotropic encoders. A subclass sets `stack` and `norm` and writes `embed`.

    Args:
        in_chans: channels of the image.
        dim: channels of the tokens.
        num_blocks: blocks, and so maps.
        patch_px: side of a patch.
        out_indices: which blocks' maps to return; None for the last three.
        tile_px: see `Encoder`.
        size_multiple: see `Encoder`; None for `tile_px`, or the patch where there is none.
        normalisation: see `Encoder`.
        weights_statistics: see `Encoder`.
    """

    stack: nn.ModuleList
    norm: nn.Module

    def __init__(
        self,
        in_chans: int,
        *,
        dim: int,
        num_blocks: int,
        patch_px: int,
        out_indices: Sequence[int] | None = None,
        tile_px: int | None = None,
        size_multiple: int | None = None,
        normalisation: Normalisation = "symmetric",
        weights_statistics: Statistics | None = None,
    ):
        super().__init__(
            in_chans,
            channels=(dim,) * num_blocks,
            strides=(patch_px,) * num_blocks,
            out_indices=out_indices,
            size_multiple=size_multiple or tile_px or patch_px,
            tile_px=tile_px,
            normalisation=normalisation,
            weights_statistics=weights_statistics,
            default_indices=range(max(num_blocks - 3, 0), num_blocks),
        )

    @abstractmethod
    def embed(self, x_BCHW: torch.Tensor) -> Tokens:
        """What the first block is given."""

    def block(self, block: nn.Module, tokens: Tokens) -> Tokens:
        """What a block makes of its tokens; other than `block(x_BNC)`, where a block needs more than that."""
        return tokens.with_values(block(tokens.x_BNC))

    def last(self, tokens: Tokens) -> Tokens:
        """What comes after the last block: the last norm; more for encoders with class-attention layers."""
        return tokens.with_values(self.norm(tokens.x_BNC))

    def maps(self, x_BCHW: torch.Tensor) -> list[torch.Tensor]:
        """One map for each block."""
        return self._run(x_BCHW)[0]

    def features(self, x_BCHW: torch.Tensor) -> Features:
        """One map for each block, and the tokens after the last norm."""
        maps, tokens = self._run(x_BCHW)
        return Features(maps, self.last(tokens))

    def blocks(self) -> Sequence[nn.Module]:
        """The blocks of the stack."""
        return list(self.stack)

    def prune_to_maps(self) -> None:
        """Remove the last norm, and the blocks after the last chosen map."""
        super().prune_to_maps()
        self.keep_maps()
        self.stack = self.stack[: self.num_maps]
        self.norm = nn.Identity()

    def head(self, num_classes: int) -> nn.Module:
        """One linear layer on the class token, or on the mean of the patch tokens where there is none."""
        return LinearHead(self._declared[-1][0], num_classes, pooling="tokens")

    def _run(self, x_BCHW: torch.Tensor) -> tuple[list[torch.Tensor], Tokens]:
        return self.run_blocks(self.embed(x_BCHW))

    def run_blocks(self, tokens: Tokens) -> tuple[list[torch.Tensor], Tokens]:
        """One map for each block, and the tokens after the last of them."""
        maps = []
        for block in self.stack:
            tokens = self.block(block, tokens)
            maps.append(tokens.map_BCHW())
        return maps, tokens


class MapBlocksEncoder(TokenEncoder):
    """Base of isotropic encoders without a class token, whose blocks work on the map of patches.

    A subclass sets `patch_embed`, `pos_embed`, `stack` and `norm`. Images of another size than that of the positions
    get them by bicubic resampling.
    """

    patch_embed: nn.Module
    pos_embed: nn.Parameter

    def embed(self, x_BCHW: torch.Tensor) -> Tokens:
        """Patches with their positions."""
        patches_BCHW = self.patch_embed(x_BCHW)
        tokens = Tokens.of_map(patches_BCHW.permute(0, 2, 3, 1))
        return tokens.with_values(tokens.x_BNC + resampled_table(self.pos_embed, patches_BCHW.shape[2:]))

    def block(self, block: nn.Module, tokens: Tokens) -> Tokens:
        """A block is given the map."""
        return tokens.with_values(block(tokens.map_BHWC()).flatten(1, 2))

    def head(self, num_classes: int) -> nn.Module:
        """One linear layer on the mean of the tokens."""
        return LinearHead(self._declared[-1][0], num_classes, pooling="patches")
