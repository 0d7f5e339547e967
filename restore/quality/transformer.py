"""The post-norm transformer that IQT and TRIQ are made of, and tables of positions that fit maps of any size.

Parameter names are those of the third-party IQT weights (`W_Q`, `pos_ffn.conv1`, ...).

Legend: B batch, N tokens, C width, H heads, D width of a head.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from restore.layers.exportable import is_of_size, resized_with_filter
from restore.layers.layer_norm import LayerNorm
from restore.layers.residual import LayerScale

__all__ = ["Attention", "DecoderLayer", "EncoderLayer", "fit_positions"]


class Attention(nn.Module):
    """Multi-head attention whose heads may be wider than C / H, as those of IQT are (D = C)."""

    def __init__(self, width: int, num_heads: int, head_width: int):
        super().__init__()
        self.num_heads = num_heads
        self.W_Q = nn.Linear(width, num_heads * head_width)
        self.W_K = nn.Linear(width, num_heads * head_width)
        self.W_V = nn.Linear(width, num_heads * head_width)
        self.linear = nn.Linear(num_heads * head_width, width)

    def forward(self, query_BNC: torch.Tensor, memory_BMC: torch.Tensor, *, causal: bool = False) -> torch.Tensor:
        """(B, N, C): what each query takes from the memory; `causal` hides the memory's later tokens from it."""
        query, key, value = self.W_Q(query_BNC), self.W_K(memory_BMC), self.W_V(memory_BMC)
        q, k, v = (tokens.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for tokens in (query, key, value))
        taken_BHND = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
        return self.linear(taken_BHND.transpose(1, 2).flatten(2))


class Pointwise(nn.Conv1d):
    """A linear layer whose weight has the shape of a 1x1 convolution, as the published weights have it."""

    def __init__(self, width: int, out_width: int):
        super().__init__(width, out_width, 1)

    def forward(self, tokens_BNC: torch.Tensor) -> torch.Tensor:
        """(B, N, out_width)."""
        return F.linear(tokens_BNC, self.weight[..., 0], self.bias)


class FeedForward(nn.Module):
    """Two pointwise layers with an activation between them."""

    def __init__(self, width: int, hidden: int, activation: nn.Module):
        super().__init__()
        self.conv1 = Pointwise(width, hidden)
        self.conv2 = Pointwise(hidden, width)
        self.activation = activation

    def forward(self, tokens_BNC: torch.Tensor) -> torch.Tensor:
        """(B, N, C)."""
        return self.conv2(self.activation(self.conv1(tokens_BNC)))


class EncoderLayer(nn.Module):
    """Self-attention and a feed-forward network, each followed by dropout, residual and norm.

    Args:
        width: C.
        num_heads: H.
        head_width: D.
        ffn_width: hidden width of the feed-forward network.
        activation: of the feed-forward network.
        eps: of the norms.
        dropout: probability.
        layer_scale: first value of a learned factor for each channel of either half; None leaves it out.
    """

    def __init__(
        self,
        width: int,
        num_heads: int,
        head_width: int,
        ffn_width: int,
        *,
        activation: nn.Module,
        eps: float,
        dropout: float,
        layer_scale: float | None = None,
    ):
        super().__init__()
        self.self_attn = Attention(width, num_heads, head_width)
        self.layer_norm1 = LayerNorm(width, eps=eps)
        self.pos_ffn = FeedForward(width, ffn_width, activation)
        self.layer_norm2 = LayerNorm(width, eps=eps)
        self.dropout = nn.Dropout(dropout)
        scales = (nn.Identity() if layer_scale is None else LayerScale(width, layer_scale) for _ in range(2))
        self.scale1, self.scale2 = scales

    def forward(self, tokens_BNC: torch.Tensor) -> torch.Tensor:
        """(B, N, C)."""
        attended = self.dropout(self.scale1(self.self_attn(tokens_BNC, tokens_BNC)))
        tokens_BNC = self.layer_norm1(tokens_BNC + attended)
        return self.layer_norm2(tokens_BNC + self.dropout(self.scale2(self.pos_ffn(tokens_BNC))))


class DecoderLayer(EncoderLayer):
    """An `EncoderLayer` that attends to the encoder's tokens between its two halves."""

    def __init__(self, width: int, num_heads: int, head_width: int, ffn_width: int, *, eps: float, **options: Any):
        super().__init__(width, num_heads, head_width, ffn_width, eps=eps, **options)
        self.dec_enc_attn = Attention(width, num_heads, head_width)
        self.layer_norm3 = LayerNorm(width, eps=eps)

    def forward(  # type: ignore[override]  # it has the parts of an encoder layer, but is not used as one
        self, tokens_BNC: torch.Tensor, memory_BMC: torch.Tensor, *, causal: bool = False
    ) -> torch.Tensor:
        """(B, N, C)."""
        attended = self.self_attn(tokens_BNC, tokens_BNC, causal=causal)
        tokens_BNC = self.layer_norm1(tokens_BNC + self.dropout(attended))
        tokens_BNC = self.layer_norm2(tokens_BNC + self.dropout(self.dec_enc_attn(tokens_BNC, memory_BMC)))
        return self.layer_norm3(tokens_BNC + self.dropout(self.pos_ffn(tokens_BNC)))


def fit_positions(table_1NC: torch.Tensor, grid: tuple[int, int], size: tuple[int, int]) -> torch.Tensor:
    """Positions for a map of `size`, interpolated from a table that was made for a map of `grid` (rows, columns).

    The first row of the table belongs to the extra token and stays as it is.
    """
    if is_of_size(size, grid):
        return table_1NC
    token, places = table_1NC[:, :1], table_1NC[:, 1:]
    map_1CHW = places.transpose(1, 2).unflatten(2, grid)
    fitted = resized_with_filter(map_1CHW, size, "bilinear")
    return torch.cat([token, fitted.flatten(2).transpose(1, 2)], dim=1)
