"""Attention of queries to a memory: Transformer, Vaswani et al. 2017, arXiv 1706.03762, section 3.2.2.

Shape legend: B batch, Q queries, M tokens of the memory, C channels, h heads.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from restore.layers.arguments import require_positive

__all__ = ["CrossAttention"]


class CrossAttention(nn.Module):
    """Each query takes a weighted mean of what the memory holds.

    Args:
        dim: C.
        num_heads: h, a divisor of C.
        bias: whether queries, keys and values have one.
    """

    def __init__(self, dim: int, num_heads: int, bias: bool = True):
        require_positive(dim=dim, num_heads=num_heads)
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"dim {dim} must be a multiple of num_heads {num_heads}")
        self.num_heads = num_heads
        self.q, self.k, self.v = (nn.Linear(dim, dim, bias=bias) for _ in range(3))
        self.proj = nn.Linear(dim, dim)
        for layer in (self.q, self.k, self.v):
            nn.init.xavier_uniform_(layer.weight)

    def forward(
        self,
        query_BQC: torch.Tensor,
        memory_BMC: torch.Tensor,
        *,
        values_BMC: torch.Tensor | None = None,
        mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """(B, Q, C).

        Args:
            query_BQC: what looks.
            memory_BMC: what it looks at.
            values_BMC: what it takes from there; None for the memory. DETR adds positions to the others alone.
            mask: true where a query may look; broadcast to (B, h, Q, M).
        """
        return self.attend(self.q(query_BQC), *self.keys_and_values(memory_BMC, values_BMC), mask)

    def keys_and_values(
        self, memory_BMC: torch.Tensor, values_BMC: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, M, C) each: what a decoder that goes on token by token keeps."""
        return self.k(memory_BMC), self.v(memory_BMC if values_BMC is None else values_BMC)

    def attend(
        self, q_BQC: torch.Tensor, k_BMC: torch.Tensor, v_BMC: torch.Tensor, mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        """(B, Q, C) of queries, keys and values that are projected already."""
        q, k, v = (each.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for each in (q_BQC, k_BMC, v_BMC))
        taken_BhQd = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.proj(taken_BhQd.transpose(1, 2).flatten(2))
