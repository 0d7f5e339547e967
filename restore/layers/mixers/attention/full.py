"""Attention of all tokens to all: Transformer, Vaswani et al. 2017, arXiv 1706.03762; ViT, arXiv 2010.11929.
Checked against torch.

Shape legend: B batch, N tokens, h heads, d channels of a head.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from restore.layers.arguments import require_positive
from restore.layers.exportable import is_exporting, unflattened
from restore.layers.mixers.base import TokenMixer
from restore.layers.position import ConvPosition, SinusoidPosition
from restore.layers.precision import without_autocast
from restore.layers.relative_position import ContextualBias, ContinuousBias, RelativePosition, TableBias
from restore.layers.tokens import Tokens
from restore.registry import MIXERS

__all__ = ["AttentionPosition", "MapAttention", "SelfAttention", "cosine_queries_and_keys"]

AttentionPosition = Literal["none", "sinusoid", "peg", "table", "log_cpb", "irpe", "lepe"]
"""What attention knows of places: see `SelfAttention`."""

MAX_LOGIT_SCALE = math.log(100)  # of cosine attention, so that scores stay below 100
_MAP_BYTES = 2**25  # of the rows of a map that are made at once without gradients


@MIXERS.add("attention")
class SelfAttention(TokenMixer):
    """Multi-head attention of all tokens of an image (Vaswani et al. 2017, arXiv 1706.03762).

    Tokens that stand for several are attended to accordingly: the logarithm of their number is added to their scores
    (ToMe, Bolya et al. 2022, arXiv 2210.09461, equation 1), so that merging equal tokens changes nothing.

    Positions are for patches that lie on a grid of any size; tokens in front of it have none:

        sinusoid    fixed sines and cosines, added to the tokens (arXiv 1706.03762)
        peg         a 3x3 depth-wise convolution, added to the tokens (CPVT, arXiv 2102.10882)
        table       a learned number for each relative position and head, added to the scores (Swin, arXiv 2103.14030)
        log_cpb     a small network of the relative position, added to the scores (Swin v2, arXiv 2111.09883)
        irpe        a learned vector for each kind of relative position, times the query (iRPE, arXiv 2107.14222)
        lepe        a 3x3 depth-wise convolution of the values, added to the output (CSWin, arXiv 2107.00652)

    Args:
        dim: channels.
        num_heads: attention heads.
        qkv_bias: whether queries, keys and values have a bias.
        position: one of the above, or "none".
        cosine: scores are cosines of queries and keys over a learned temperature (Swin v2, equation 2).
        grid_side: side of the grid that "table" and "log_cpb" are made for.
        qk_scale: factor of the products of queries and keys; None: one over the square root of a head's channels.
        head_dim: channels of a head; None: the heads divide `dim` between them.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int = 6,
        qkv_bias: bool = True,
        position: AttentionPosition = "none",
        cosine: bool = False,
        grid_side: int = 16,
        qk_scale: float | None = None,
        head_dim: int | None = None,
    ):
        require_positive(num_heads=num_heads)
        if head_dim is None and dim % num_heads:
            raise ValueError(f"dim {dim} must be a multiple of num_heads {num_heads}")
        inner_dim = dim if head_dim is None else num_heads * head_dim
        super().__init__(dim, inner_dim=inner_dim)
        if cosine and qk_scale is not None:
            raise ValueError(f"qk_scale is {qk_scale}: cosine attention has a learned temperature, leave it out")
        self.num_heads, self.qk_scale = num_heads, qk_scale
        self.qkv = nn.Linear(dim, 3 * inner_dim, bias=qkv_bias)
        self.proj = nn.Linear(inner_dim, dim)
        self.logit_scale = nn.Parameter(torch.full((num_heads, 1, 1), math.log(10))) if cosine else None
        self.place: nn.Module | None = None
        self.relative: RelativePosition | None = None
        self.lepe = nn.Conv2d(inner_dim, inner_dim, 3, padding=1, groups=inner_dim) if position == "lepe" else None
        if position in ("sinusoid", "peg"):
            self.place = SinusoidPosition(dim) if position == "sinusoid" else ConvPosition(dim)
        elif position == "irpe":
            self.relative = ContextualBias(inner_dim // num_heads)
        elif position in ("table", "log_cpb"):
            self.relative = (TableBias if position == "table" else ContinuousBias)(num_heads, grid_side)

    def mix_tokens(self, tokens: Tokens) -> torch.Tensor:
        """Attention of every token to every other of its image."""
        q, k, v = self.queries_keys_values(tokens)
        added = self.added_scores(q, tokens)
        if self.logit_scale is None:
            mixed_BhNd = F.scaled_dot_product_attention(q, k, v, attn_mask=added, scale=self.qk_scale)
        else:
            with without_autocast(q):
                mixed_BhNd = F.scaled_dot_product_attention(q, k, v.to(q.dtype), attn_mask=added, scale=1.0)
        return self.joined(mixed_BhNd, v, tokens)

    def queries_keys_values(self, tokens: Tokens) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(B, h, N, d) each; of cosine attention, queries and keys whose products are the scores, in float32."""
        x_BNC = tokens.x_BNC
        if self.place is not None:
            x_BNC = tokens.with_map(self.place(tokens.map_BHWC()).permute(0, 3, 1, 2)).x_BNC
        q, k, v = unflattened(self.qkv(x_BNC), 2, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        if self.logit_scale is not None:
            q, k = cosine_queries_and_keys(q, k, self.logit_scale)
        return q, k, v

    def added_scores(self, queries_BhNd: torch.Tensor, tokens: Tokens) -> torch.Tensor | None:
        """What is added to the scores for places and for the number of tokens that each stands for."""
        added = None
        if self.relative is not None:
            rows, columns = tokens.map_BHWC().shape[1:3]
            patches_BhNd = queries_BhNd[:, :, tokens.num_prefix :]
            added = self.relative.scores(patches_BhNd * self.scale_of_scores(queries_BhNd), (rows, columns))
            added = F.pad(added, (tokens.num_prefix, 0) * 2).to(queries_BhNd.dtype)
        if tokens.weight_BN is not None:
            of_number = tokens.weight_BN.log()[:, None, None].to(queries_BhNd.dtype)
            added = of_number if added is None else added + of_number
        return added

    def map_and_values(self, tokens: Tokens) -> tuple[torch.Tensor, torch.Tensor]:
        """The map (B, h, N, N), whose rows sum to 1, and the values (B, h, N, d)."""
        scores_BhNN, v = self.scores_and_values(tokens)
        return scores_BhNN.softmax(dim=-1), v

    def scores_and_values(self, tokens: Tokens) -> tuple[torch.Tensor, torch.Tensor]:
        """What softmax is taken of, (B, h, N, N), and the values."""
        q, k, v = self.queries_keys_values(tokens)
        added = self.added_scores(q, tokens)
        scores_BhNN = q @ k.transpose(-2, -1) * self.scale_of_scores(q)
        return scores_BhNN if added is None else scores_BhNN + added, v

    def scale_of_scores(self, queries_BhNd: torch.Tensor) -> float:
        """What products of queries and keys are multiplied by."""
        if self.logit_scale is not None:
            return 1.0
        return queries_BhNd.shape[-1] ** -0.5 if self.qk_scale is None else self.qk_scale

    def joined(self, mixed_BhNd: torch.Tensor, values_BhNd: torch.Tensor, tokens: Tokens) -> torch.Tensor:
        """(B, N, C): the heads side by side, with the convolution of the values where there is one."""
        mixed_BNC = mixed_BhNd.transpose(1, 2).flatten(2)
        if self.lepe is None:
            return mixed_BNC
        values = tokens.with_values(values_BhNd.transpose(1, 2).flatten(2))
        near = self.lepe(values.map_BCHW()).flatten(2).transpose(1, 2)
        return mixed_BNC + F.pad(near, (0, 0, tokens.num_prefix, 0))


class MapAttention(SelfAttention):
    """Base of attention that mixes the maps of its heads: a subclass writes one of the two steps, or both.

    In evaluation without gradients a large map is made a few rows at a time, so that memory does not grow with the
    square of the number of tokens.

    Args: see `SelfAttention`.

    Attributes:
        rows_around: how many rows of the map above and below a row its change depends on.
    """

    rows_around = 0

    def mix_tokens(self, tokens: Tokens) -> torch.Tensor:
        """Attention of every token to every other of its image, by the changed map."""
        step = self._rows_at_once(tokens)
        if step is not None:
            return self._mixed_by_rows(tokens, step)
        map_BhNN, v = self.map_and_values(tokens)
        return self.joined(map_BhNN @ v, v, tokens)

    def _rows_at_once(self, tokens: Tokens) -> int | None:
        """How many rows of the map are made at once; None for the whole of it."""
        x_BNC = tokens.x_BNC
        whole = self.training or torch.is_grad_enabled() or torch.compiler.is_compiling() or is_exporting()
        if whole or x_BNC.dtype == torch.float64:  # in which maps are looked at
            return None
        bytes_of_row = 4 * x_BNC.shape[0] * self.num_heads * x_BNC.shape[1]
        step = max(_MAP_BYTES // bytes_of_row, 4 * self.rows_around, 1)
        return step if step < x_BNC.shape[1] else None

    def _mixed_by_rows(self, tokens: Tokens, step: int) -> torch.Tensor:
        q, k, v = self.queries_keys_values(tokens)
        added, count, around = self.added_scores(q, tokens), q.shape[2], self.rows_around
        scale = self.scale_of_scores(q)
        mixed_BhNd = torch.empty_like(v)  # made before, as small pieces between large ones would scatter the memory
        for first in range(0, count, step):
            last = min(first + step, count)
            seen = slice(max(first - around, 0), min(last + around, count))
            scores_BhnN = q[:, :, seen] @ k.transpose(-2, -1) * scale
            if added is not None:
                scores_BhnN = scores_BhnN + (added if added.shape[-2] == 1 else added[..., seen, :])
            map_BhnN = self.change_map(self.change_scores(scores_BhnN).softmax(dim=-1))
            mixed_BhNd[:, :, first:last] = map_BhnN[:, :, first - seen.start : last - seen.start] @ v
        return self.joined(mixed_BhNd, v, tokens)

    def map_and_values(self, tokens: Tokens) -> tuple[torch.Tensor, torch.Tensor]:
        """The changed map (B, h, N, N), whose rows need not sum to 1, and the values (B, h, N, d)."""
        scores_BhNN, v = self.scores_and_values(tokens)
        return self.change_map(self.change_scores(scores_BhNN).softmax(dim=-1)), v

    def change_scores(self, scores_BhNN: torch.Tensor) -> torch.Tensor:
        """What is done before softmax."""
        return scores_BhNN

    def change_map(self, map_BhNN: torch.Tensor) -> torch.Tensor:
        """What is done after softmax."""
        return map_BhNN


def cosine_queries_and_keys(
    queries: torch.Tensor, keys: torch.Tensor, logit_scale_h11: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """(..., h, N, d) each, in float32 or better, whose products are cosines times a learned factor of up to 100.

    Swin v2, Liu et al. 2021, arXiv 2111.09883, equation 2. A positive factor of queries or keys changes nothing.

    Args:
        logit_scale_h11: logarithm of the factor of each head.
    """
    exact = torch.float64 if queries.dtype == torch.float64 else torch.float32
    queries, keys = (F.normalize(each.to(exact), dim=-1) for each in (queries, keys))
    return queries * logit_scale_h11.clamp(max=MAX_LOGIT_SCALE).exp(), keys
