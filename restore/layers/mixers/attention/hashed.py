"""Attention among tokens whose directions fall into the same bucket: non-local, at a cost of N log N.

Reformer, Kitaev et al. 2020, arXiv 2001.04451, section 2. Official code: github.com/google/trax (Apache-2.0). Queries
and keys are one; the rotations that make the buckets are drawn once and kept with the weights, where the paper draws
them for every step.
Checked against closed forms.

Shape legend: B batch, N tokens, h heads, d channels of a head, R rounds, P >= N places in order of buckets, M chunks of
c places.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from restore.layers.arguments import require_positive
from restore.layers.mixers.base import TokenMixer
from restore.layers.precision import without_autocast
from restore.layers.tokens import Tokens
from restore.registry import MIXERS

__all__ = ["HashAttention"]

_OF_ITSELF = -1e5  # added to the score of a token with itself: it counts only where there is no other
_OF_NONE = -1e7  # of a token that stands for none, such as padding: it counts less than a token itself
_NOT_AT_ALL = -1e9


@MIXERS.add("lsh")
class HashAttention(TokenMixer):
    """Each token attends to those of its bucket that stand in its chunk, or in the chunk before, in order of buckets.

    With one bucket, and a chunk that holds all tokens, this is full attention with queries that are also keys.

    Args:
        dim: channels.
        num_heads: attention heads.
        num_buckets: 1, or even.
        chunk_size: c.
        num_rounds: R, times that tokens are hashed anew; what they find is weighted by how much of it there is.

    Attributes:
        rotations: (h, d, R, num_buckets / 2), a buffer.
    """

    chooses = True
    rotations: torch.Tensor

    def __init__(self, dim: int, num_heads: int = 6, num_buckets: int = 8, chunk_size: int = 64, num_rounds: int = 2):
        require_positive(num_heads=num_heads, num_buckets=num_buckets, chunk_size=chunk_size, num_rounds=num_rounds)
        super().__init__(dim)
        if dim % num_heads:
            raise ValueError(f"dim {dim} must be a multiple of num_heads {num_heads}")
        if num_buckets > 1 and num_buckets % 2:
            raise ValueError(f"num_buckets is {num_buckets}: it must be 1 or even, as each direction has an opposite")
        self.num_heads, self.num_buckets, self.chunk_size = num_heads, num_buckets, chunk_size
        self.q, self.v, self.proj = (nn.Linear(dim, dim) for _ in range(3))
        self.register_buffer("rotations", torch.randn(num_heads, dim // num_heads, num_rounds, num_buckets // 2))

    def buckets(self, queries_BhNd: torch.Tensor) -> torch.Tensor:
        """(B, h, R, N): the axis, or its opposite, that is nearest to each token; its length does not count."""
        if self.num_buckets == 1:
            B, h, N, _ = queries_BhNd.shape
            return queries_BhNd.new_zeros(B, h, self.rotations.shape[2], N, dtype=torch.long)
        along = torch.einsum("bhnd,hdrk->bhrnk", queries_BhNd, self.rotations.to(queries_BhNd.dtype))
        return torch.cat([along, -along], dim=-1).argmax(dim=-1)

    def mix_tokens(self, tokens: Tokens) -> torch.Tensor:
        """What each token finds, of all rounds."""
        x_BNC = tokens.x_BNC
        qk, v = (layer(x_BNC).unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for layer in (self.q, self.v))
        exact = torch.float64 if qk.dtype == torch.float64 else torch.float32
        with without_autocast(x_BNC):
            qk, v = qk.to(exact), v.to(exact)
            added_BN = None if tokens.weight_BN is None else tokens.weight_BN.to(exact).log().clamp(min=_OF_NONE)
            found_BhRNd, amount_BhRN = self._rounds(qk, v, added_BN)
            weights_BhR1 = amount_BhRN.softmax(dim=2)[..., None]
            mixed_BhNd = (found_BhRNd * weights_BhR1).sum(dim=2)
        return mixed_BhNd.transpose(1, 2).flatten(2).to(x_BNC.dtype)

    def _rounds(
        self, qk_BhNd: torch.Tensor, v_BhNd: torch.Tensor, added_BN: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """What each token finds in each round, and the logarithm of the sum of its exponentials."""
        with torch.no_grad():
            buckets_BhRN = self.buckets(qk_BhNd)
        N = qk_BhNd.shape[2]
        chunk = min(self.chunk_size, N)
        order_BhRN = buckets_BhRN.argsort(dim=-1, stable=True)
        more = -N % chunk
        places_BhRP = F.pad(order_BhRN, (0, more))
        sorted_BhRP = F.pad(buckets_BhRN.gather(-1, order_BhRN), (0, more), value=-1)

        def chunks(x_BhNd: torch.Tensor) -> torch.Tensor:
            """(B, h, R, M, c, d) in order of buckets."""
            index = places_BhRP[..., None].expand(*places_BhRP.shape, x_BhNd.shape[-1])
            in_order = x_BhNd[:, :, None].expand(-1, -1, index.shape[2], -1, -1).gather(3, index)
            return in_order.unflatten(3, (-1, chunk))

        def with_those_before(x_BhRMc: torch.Tensor) -> torch.Tensor:
            return torch.cat([x_BhRMc.roll(1, dims=3), x_BhRMc], dim=4) if x_BhRMc.shape[3] > 1 else x_BhRMc

        q, k = chunks(qk_BhNd), with_those_before(chunks(F.normalize(qk_BhNd, dim=-1)))
        scores = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5
        if added_BN is not None:
            of_keys = added_BN[:, None, :, None].expand(-1, self.num_heads, -1, -1)
            scores = scores + with_those_before(chunks(of_keys)).transpose(-2, -1)
        own, place = (each.unflatten(3, (-1, chunk)) for each in (sorted_BhRP, places_BhRP))
        other_bucket = own[..., None] != with_those_before(own)[..., None, :]
        scores = scores + _OF_ITSELF * (place[..., None] == with_those_before(place)[..., None, :])
        scores = scores.masked_fill(other_bucket, _NOT_AT_ALL)
        amount = scores.logsumexp(dim=-1, keepdim=True)
        found = (scores - amount).exp() @ with_those_before(chunks(v_BhNd))
        back_BhRN = order_BhRN.argsort(dim=-1)
        found_BhRPd, amount_BhRP = found.flatten(3, 4), amount.flatten(3)
        index = back_BhRN[..., None].expand(*back_BhRN.shape, found_BhRPd.shape[-1])
        return found_BhRPd.gather(3, index), amount_BhRP.gather(3, back_BhRN)
