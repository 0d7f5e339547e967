"""The body of IPT: encoder and decoder over the patches of windows (see `restore.networks.ipt`).

Shapes: B batch, S side of a window, N tokens of a window, M merged tokens, D width.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from restore.layers.layer_norm import LayerNorm
from restore.layers.merging import Merging, Plan
from restore.layers.tokens import Tokens

__all__ = ["TransformerBody"]


class TransformerBody(nn.Module):
    """Encoder and decoder over the patches of a window; the decoder is told the task by a learned query."""

    def __init__(
        self,
        img_dim: int,
        patch_dim: int,
        channels: int,
        num_heads: int,
        num_layers: int,
        num_queries: int,
        dropout: float,
        norm: bool,
        mlp: bool,
        positions: str,
    ):
        super().__init__()
        dim = channels * patch_dim**2
        if img_dim % patch_dim or dim % num_heads:
            raise ValueError(
                f"patch_size {img_dim} must be a multiple of patch_dim {patch_dim}, and the width {dim} "
                f"(n_feats * patch_dim^2) a multiple of num_heads {num_heads}"
            )
        self.img_dim, self.patch_dim, self.positions = img_dim, patch_dim, positions
        num_tokens = (img_dim // patch_dim) ** 2
        self.linear_encoding = self.mlp_head = self.query_embed = None
        if mlp:
            self.linear_encoding = nn.Linear(dim, dim)
            self.mlp_head = nn.Sequential(
                nn.Linear(dim, 4 * dim), nn.Dropout(dropout), nn.ReLU(), nn.Linear(4 * dim, dim), nn.Dropout(dropout)
            )
            self.query_embed = nn.Embedding(num_queries, dim * num_tokens)
        self.encoder = LayerStack(EncoderLayer(dim, num_heads, dropout, norm) for _ in range(num_layers))
        self.decoder = LayerStack(DecoderLayer(dim, num_heads, dropout, norm) for _ in range(num_layers))
        if positions != "none":
            self.position_encoding = PositionTable(num_tokens, dim)
        self.dropout_layer1 = nn.Dropout(dropout)
        if not norm:
            for module in self.modules():
                if isinstance(module, nn.Linear):
                    nn.init.normal_(module.weight, std=1 / module.in_features)

    def forward(self, map_BCSS: torch.Tensor, tasks: list[tuple[int, int]]) -> tuple[torch.Tensor, torch.Tensor]:
        """Transform windows of S x S pixels.

        Args:
            map_BCSS: the windows of all tasks.
            tasks: pairs (task, number of its windows), in the order of the batch.

        Returns:
            The windows, and the tokens (B, N, D) they are folded from.
        """
        tokens = F.unfold(map_BCSS, self.patch_dim, stride=self.patch_dim).transpose(1, 2)
        query = None
        if self.query_embed is not None:
            assert self.linear_encoding is not None
            tokens = self.dropout_layer1(self.linear_encoding(tokens)) + tokens
            query = self._queries(tasks, tokens)
        position = self.position_encoding.pe.weight if self.positions != "none" else None
        if self.positions == "first":
            tokens, position = _add(tokens, position), None
        for layer in self.encoder.layers:
            tokens = layer(tokens, position)
        memory = tokens
        for layer in self.decoder.layers:
            tokens = layer(tokens, memory, position, query)
        if self.mlp_head is not None:
            tokens = self.mlp_head(tokens) + tokens
        folded = F.fold(tokens.transpose(1, 2), self.img_dim, self.patch_dim, stride=self.patch_dim)
        return folded, tokens

    def _queries(self, tasks: list[tuple[int, int]], tokens_BND: torch.Tensor) -> torch.Tensor:
        """The query of each window: (1, N, D) where all are the same, else (B, N, D)."""
        assert self.query_embed is not None
        last = self.query_embed.num_embeddings - 1
        rows = self.query_embed.weight.view(-1, *tokens_BND.shape[1:])
        parts = [rows[min(task, last)].expand(count if len(tasks) > 1 else 1, -1, -1) for task, count in tasks]
        return torch.cat(parts)


class LayerStack(nn.Module):
    """A list of layers under the name that the published keys have."""

    def __init__(self, layers: Iterable[nn.Module]):
        super().__init__()
        self.layers = nn.ModuleList(layers)


class Layer(nn.Module):
    """What both kinds of layers have: pre-norm self-attention and a ReLU feed-forward layer."""

    def __init__(self, dim: int, num_heads: int, dropout: float, norm: bool):
        super().__init__()
        self.self_attn = BiaslessAttention(dim, num_heads, dropout)
        self.linear1 = nn.Linear(dim, 4 * dim)
        self.linear2 = nn.Linear(4 * dim, dim)
        self.norm1 = LayerNorm(dim) if norm else nn.Identity()
        self.norm2 = LayerNorm(dim) if norm else nn.Identity()
        self.dropout = nn.Dropout(dropout)

    def merged(self, merging: Merging, *, whole: bool) -> nn.Module:
        """The layer on merged tokens, always the whole: of 256 tokens, most of the work is in the linear maps."""
        assert isinstance(self, (EncoderLayer, DecoderLayer))
        return MergedLayer(self, merging)

    def _feed_forward(self, tokens_BND: torch.Tensor) -> torch.Tensor:
        return self.dropout(self.linear2(self.dropout(F.relu(self.linear1(tokens_BND), inplace=True))))


class EncoderLayer(Layer):
    """Self-attention, then the feed-forward layer."""

    def forward(
        self, tokens_BND: torch.Tensor, position: torch.Tensor | None, weight_BN: torch.Tensor | None = None
    ) -> torch.Tensor:
        value = self.norm1(tokens_BND)
        query = _add(value, position)
        tokens_BND = tokens_BND + self.dropout(self.self_attn(query, query, value, weight_BN))
        return tokens_BND + self._feed_forward(self.norm2(tokens_BND))

    def of_merged(self, tokens_BND: torch.Tensor, plan: Plan, position: torch.Tensor | None) -> torch.Tensor:
        """What it makes of merged tokens, whose positions are merged alike."""
        return self(tokens_BND, _merged(plan, position, tokens_BND), plan.weight_BM)


class DecoderLayer(Layer):
    """An encoder layer with attention to the encoder's output between its two halves; told the task by `query`."""

    def __init__(self, dim: int, num_heads: int, dropout: float, norm: bool):
        super().__init__(dim, num_heads, dropout, norm)
        self.multihead_attn = BiaslessAttention(dim, num_heads, dropout)
        self.norm3 = LayerNorm(dim) if norm else nn.Identity()

    def forward(
        self,
        tokens_BND: torch.Tensor,
        memory_BND: torch.Tensor,
        position: torch.Tensor | None,
        query: torch.Tensor | None,
        weight_BN: torch.Tensor | None = None,
    ) -> torch.Tensor:
        value = self.norm1(tokens_BND)
        target = _add(value, query)
        tokens_BND = tokens_BND + self.dropout(self.self_attn(target, target, value, weight_BN))
        target = _add(self.norm2(tokens_BND), query)
        attended = self.multihead_attn(target, _add(memory_BND, position), memory_BND)
        tokens_BND = tokens_BND + self.dropout(attended)
        return tokens_BND + self._feed_forward(self.norm3(tokens_BND))

    def of_merged(
        self,
        tokens_BND: torch.Tensor,
        plan: Plan,
        memory_BND: torch.Tensor,
        position: torch.Tensor | None,
        query: torch.Tensor | None,
    ) -> torch.Tensor:
        """What it makes of merged tokens, whose queries are merged alike; the encoder's output is all there."""
        return self(tokens_BND, memory_BND, position, _merged(plan, query, tokens_BND), plan.weight_BM)


class MergedLayer(nn.Module):
    """A layer that sees merged tokens; what it changes is given to each of them."""

    def __init__(self, layer: EncoderLayer | DecoderLayer, merging: Merging):
        super().__init__()
        self.layer, self.merging = layer, merging

    def forward(self, tokens_BND: torch.Tensor, *others: Any) -> torch.Tensor:
        side = math.isqrt(tokens_BND.shape[1])
        plan = self.merging.plan(Tokens(tokens_BND, (side, side)))
        if plan is None:
            return self.layer(tokens_BND, *others)
        merged = plan.merge(tokens_BND)
        return tokens_BND + plan.spread(self.layer.of_merged(merged, plan, *others) - merged)


class BiaslessAttention(nn.Module):
    """Multi-head attention without biases; one matrix product serves those of query, key and value that are equal."""

    def __init__(self, dim: int, num_heads: int, dropout: float):
        super().__init__()
        self.num_heads, self.dropout = num_heads, dropout
        self.in_proj_weight = nn.Parameter(torch.empty(3 * dim, dim))
        self.out_proj = nn.Linear(dim, dim, bias=False)
        nn.init.kaiming_uniform_(self.in_proj_weight, a=math.sqrt(5))

    def forward(
        self,
        query_BND: torch.Tensor,
        key_BND: torch.Tensor,
        value_BND: torch.Tensor,
        weight_BN: torch.Tensor | None = None,
    ) -> torch.Tensor:
        q, k, v = (
            projected.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for projected in self._project(query_BND, key_BND, value_BND)
        )
        number = None if weight_BN is None else weight_BN.log()[:, None, None].to(q.dtype)
        dropout = self.dropout if self.training else 0.0
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=number, dropout_p=dropout)
        return self.out_proj(attended.transpose(1, 2).flatten(2))

    def _project(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> Sequence[torch.Tensor]:
        weight = self.in_proj_weight
        dim = weight.shape[1]
        if query is key and key is value:
            return F.linear(query, weight).chunk(3, dim=-1)
        if query is key:
            return (*F.linear(query, weight[: 2 * dim]).chunk(2, dim=-1), F.linear(value, weight[2 * dim :]))
        if key is value:
            return F.linear(query, weight[:dim]), *F.linear(key, weight[dim:]).chunk(2, dim=-1)
        return tuple(F.linear(x, part) for x, part in zip((query, key, value), weight.chunk(3), strict=True))


class PositionTable(nn.Module):
    """A learned position for each token of a window."""

    def __init__(self, num_tokens: int, dim: int):
        super().__init__()
        self.pe = nn.Embedding(num_tokens, dim)
        self.register_buffer("position_ids", torch.arange(num_tokens)[None])


def _add(tokens: torch.Tensor, offset: torch.Tensor | None) -> torch.Tensor:
    return tokens if offset is None else tokens + offset


def _merged(plan: Plan, values: torch.Tensor | None, tokens_BMD: torch.Tensor) -> torch.Tensor | None:
    """(B, M, D) of values for each token, (N, D) or (B or 1, N, D)."""
    return None if values is None else plan.merge(values.expand(len(tokens_BMD), *values.shape[-2:]))
