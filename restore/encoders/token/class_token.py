"""What ViT and its relatives share: patches, a class token, a table of positions, and blocks on all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from restore.encoders.isotropic import TokenEncoder
from restore.layers.patches import patch_projection
from restore.layers.position import resampled_table
from restore.layers.tokens import Tokens

__all__ = ["ClassTokenEncoder", "ConvStem"]


class ClassTokenEncoder(TokenEncoder):
    """Base of encoders with a class token and learned positions. A subclass sets `patch_embed` and `stack`.

    Images of another size than `img_size` get positions by bicubic resampling.

    Args:
        in_chans: channels of the image.
        dim: channels of the tokens.
        num_blocks: blocks, and so maps.
        patch_px: side of a patch.
        img_size: side of the images that positions are made for, in pixels; None: there is no table of positions.
        out_indices: see `TokenEncoder`.
        norm_eps: of the last norm.
        class_token: whether there is one; its position is the first of the table.
        others: see `TokenEncoder`.
    """

    patch_embed: nn.Module
    cls_token: nn.Parameter | None
    pos_embed: nn.Parameter | None

    def __init__(
        self,
        in_chans: int,
        *,
        dim: int,
        num_blocks: int,
        patch_px: int,
        img_size: int | None,
        out_indices: Sequence[int] | None = None,
        norm_eps: float = 1e-5,
        class_token: bool = True,
        **others: Any,
    ):
        super().__init__(in_chans, dim=dim, num_blocks=num_blocks, patch_px=patch_px, out_indices=out_indices, **others)
        self.num_prefix = int(class_token)
        places = None if img_size is None else self.num_prefix + (img_size // patch_px) ** 2
        for name, count in (("cls_token", 1 if class_token else None), ("pos_embed", places)):
            table = None if count is None else nn.Parameter(torch.zeros(1, count, dim))
            self.register_parameter(name, table)
            if table is not None:
                nn.init.trunc_normal_(table, std=0.02)
        self.norm = nn.LayerNorm(dim, norm_eps)

    def embed(self, x_BCHW: torch.Tensor) -> Tokens:
        """The patches with their positions, after the class token where there is one."""
        patches_BCHW = self.patch_embed(x_BCHW)
        grid = (patches_BCHW.shape[2], patches_BCHW.shape[3])
        x_BNC = patches_BCHW.flatten(2).transpose(1, 2)
        if self.cls_token is not None:
            x_BNC = torch.cat([self.cls_token.expand(x_BCHW.shape[0], -1, -1), x_BNC], dim=1)
        if self.pos_embed is not None:
            x_BNC = x_BNC + resampled_table(self.pos_embed, grid, self.num_prefix)
        return Tokens(x_BNC, grid, self.num_prefix)

    def block(self, block: nn.Module, tokens: Tokens) -> Tokens:
        """Blocks are given all that tokens know."""
        return block(tokens)

    def published_key(self, key: str) -> str:
        """The names that ViT gave to the field."""
        key = super().published_key(key)
        for own, published in ((".mixer.", ".attn."), (".ffn.", ".mlp.")):
            key = key.replace(own, published) if key.startswith("blocks.") else key
        return key


class ConvStem(nn.Module):
    """Convolutions of 7x7 (stride 2) and 3x3 with batch norms, then patches of 8: stride 16 in all.

    The stem of LV-ViT (Jiang et al. 2021, arXiv 2104.10858), which DeepViT and Refiner have too.

    Args:
        in_chans: channels of the image.
        widths: channels of the convolutions.
        dim: channels of the tokens.
        patch_px: side of a patch of the image.
    """

    def __init__(self, in_chans: int, widths: Sequence[int], dim: int, patch_px: int = 16):
        super().__init__()
        self.depth = len(widths)
        before = in_chans
        for number, width in enumerate(widths, 1):
            size, stride = (7, 2) if number == 1 else (3, 1)
            setattr(self, f"conv{number}", nn.Conv2d(before, width, size, stride, size // 2, bias=False))
            setattr(self, f"bn{number}", nn.BatchNorm2d(width))
            before = width
        self.proj = patch_projection(before, dim, patch_px // 2)

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """(B, in_chans, H, W) to (B, dim, H / patch_px, W / patch_px)."""
        for number in range(1, self.depth + 1):
            conv, norm = getattr(self, f"conv{number}"), getattr(self, f"bn{number}")
            x_BCHW = torch.relu(norm(conv(x_BCHW)))
        return self.proj(x_BCHW)
