"""Attention to a fixed number of positions, whatever the size of the map: linear in the number of positions.

Linformer, Wang et al. 2020, arXiv 2006.04768, section 4. There is no official code. Its learned projections are for one
number of tokens; with `grid_px` these are here, for squares of the map. Without it the projections are means of
neighbouring positions, for maps of any size, which the paper names among its choices.
Checked against closed forms.

Shape legend: B batch, N tokens, M = side^2 positions that are attended to, h heads, d channels of a head.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from restore.layers.arguments import require_positive
from restore.layers.exportable import unflattened
from restore.layers.mixers.base import TokenMixer
from restore.layers.tokens import Tokens
from restore.registry import MIXERS

__all__ = ["LinearAttention"]


@MIXERS.add("linformer")
class LinearAttention(TokenMixer):
    """Attention of all positions to means, or learned sums, of positions.

    Tokens in front of the grid are attended to as they are. On maps that are no larger than `side`, or with learned
    projections that are the identity, this is full attention.

    Args:
        dim: channels.
        num_heads: attention heads.
        side: rows, and columns, of what is attended to.
        qkv_bias: whether queries, keys and values have a bias.
        grid_px: side of the squares that learned projections are made for; None: means.
    """

    def __init__(self, dim: int, num_heads: int = 6, side: int = 8, qkv_bias: bool = True, grid_px: int | None = None):
        require_positive(num_heads=num_heads, side=side)
        super().__init__(dim, grid_px=grid_px)
        if dim % num_heads:
            raise ValueError(f"dim {dim} must be a multiple of num_heads {num_heads}")
        self.num_heads, self.side = num_heads, side
        self.q, self.k, self.v = (nn.Linear(dim, dim, bias=qkv_bias) for _ in range(3))
        self.proj = nn.Linear(dim, dim)
        self.for_keys: nn.Parameter | None = None
        self.for_values: nn.Parameter | None = None
        if grid_px is not None:
            shape = (side**2, grid_px**2)
            self.for_keys, self.for_values = (nn.Parameter(torch.randn(shape) / grid_px) for _ in range(2))

    def mix_tokens(self, tokens: Tokens) -> torch.Tensor:
        """Attention of every token to what is kept of all."""
        keys_BMC, values_BMC, weight_BM = self._kept(tokens)
        q, k, v = (
            layer(each).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for layer, each in ((self.q, tokens.x_BNC), (self.k, keys_BMC), (self.v, values_BMC))
        )
        added = None if weight_BM is None else weight_BM.log()[:, None, None].to(q.dtype)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=added).transpose(1, 2).flatten(2)

    def _kept(self, tokens: Tokens) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """What keys and values are made of, and how many original tokens each stands for."""
        prefix_BPC, patches_BNC, weight_BN = tokens.prefix_BNC, tokens.patches_BNC, tokens.weight_BN
        if self.for_keys is not None and self.for_values is not None:
            if weight_BN is not None:
                raise ValueError("learned projections are of tokens that stand for one patch each")
            keys, values = (each.to(patches_BNC.dtype) @ patches_BNC for each in (self.for_keys, self.for_values))
            return torch.cat([prefix_BPC, keys], dim=1), torch.cat([prefix_BPC, values], dim=1), None
        if weight_BN is None:
            means_BMC = torch.cat([prefix_BPC, self._means(patches_BNC, tokens.grid)], dim=1)
            return means_BMC, means_BMC, None
        of_patches_BN1 = weight_BN[:, tokens.num_prefix :, None].to(patches_BNC.dtype)
        kept_BM1 = self._means(of_patches_BN1, tokens.grid)
        means_BMC = self._means(patches_BNC * of_patches_BN1, tokens.grid) / kept_BM1
        means_BMC = torch.cat([prefix_BPC, means_BMC], dim=1)
        return (
            means_BMC,
            means_BMC,
            torch.cat([weight_BN[:, : tokens.num_prefix].to(kept_BM1), kept_BM1[..., 0]], dim=1),
        )

    def _means(self, x_BNC: torch.Tensor, grid: tuple[int, int] | None) -> torch.Tensor:
        """(B, M, C) of neighbours on the grid, or in the order of tokens where there is none."""
        if grid is None:
            number = min(self.side**2, x_BNC.shape[1])
            return F.adaptive_avg_pool1d(x_BNC.transpose(1, 2), number).transpose(1, 2)
        size = (min(self.side, grid[0]), min(self.side, grid[1]))
        return F.adaptive_avg_pool2d(unflattened(x_BNC.transpose(1, 2), 2, grid), size).flatten(2).transpose(1, 2)
