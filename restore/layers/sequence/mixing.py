"""How the tokens of a sequence see each other: all, far and near by halves of the channels, a summary, or a bucket.

    full       Transformer, Vaswani et al. 2017, arXiv 1706.03762
    lite       long-short range attention: Lite Transformer, Wu et al. 2020, arXiv 2004.11886
    linformer  learned sums of positions: Linformer, Wang et al. 2020, arXiv 2006.04768
    lsh        buckets: Reformer, Kitaev et al. 2020, arXiv 2001.04451

A mask says which tokens are there; the others change nothing. `causal` hides later tokens from earlier ones, and only
`full` and `lite` can: sums and buckets are made of all tokens, those to come among them.

Shape legend: B batch, N tokens, M tokens that are attended to, C channels, h heads, K places of a kernel.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from restore.layers.arguments import require_odd, require_positive
from restore.layers.cross_attention import CrossAttention
from restore.layers.mixers.attention.hashed import HashAttention
from restore.layers.tokens import Tokens

__all__ = ["Cache", "FullMixing", "HashMixing", "LongShortMixing", "SequenceMixer", "SummaryMixing"]

Cache = dict[str, Any]
"""What a mixer keeps of the tokens before, by name; empty at the start of a sequence."""


class SequenceMixer(nn.Module, ABC):
    """Base of what mixes the tokens of a sequence.

    Attributes:
        can_be_causal: whether later tokens can be hidden from earlier ones.
    """

    can_be_causal = False

    @abstractmethod
    def forward(
        self, x_BNC: torch.Tensor, there_BN: torch.Tensor | None = None, *, causal: bool = False
    ) -> torch.Tensor:
        """(B, N, C).

        Args:
            x_BNC: tokens.
            there_BN: true where there is one, false for padding; None for all.
            causal: whether a token sees itself and those before it alone.
        """

    def go_on(self, x_BNC: torch.Tensor, cache: Cache) -> torch.Tensor:
        """(B, N, C) of further tokens, causally, after those of earlier calls with the same cache.

        Raises:
            ValueError: later tokens cannot be hidden from earlier ones.
        """
        raise ValueError(f"{type(self).__name__} is made of all tokens: it cannot go on token by token")


class FullMixing(SequenceMixer):
    """Attention of all to all.

    Args:
        dim: C.
        num_heads: h.
    """

    can_be_causal = True

    def __init__(self, dim: int, num_heads: int):
        super().__init__()
        self.attention = CrossAttention(dim, num_heads)

    def forward(
        self, x_BNC: torch.Tensor, there_BN: torch.Tensor | None = None, *, causal: bool = False
    ) -> torch.Tensor:
        """(B, N, C)."""
        mask = None if there_BN is None else there_BN[:, None, None]
        if causal:
            before_NN = torch.ones(x_BNC.shape[1], x_BNC.shape[1], dtype=torch.bool, device=x_BNC.device).tril()
            mask = before_NN if mask is None else mask & before_NN
        return self.attention(x_BNC, x_BNC, mask=mask)

    def go_on(self, x_BNC: torch.Tensor, cache: Cache) -> torch.Tensor:
        """(B, N, C); the cache holds keys and values."""
        keys, values = self.attention.keys_and_values(x_BNC)
        if cache:
            keys, values = torch.cat([cache["k"], keys], dim=1), torch.cat([cache["v"], values], dim=1)
        cache["k"], cache["v"] = keys, values
        N, M = x_BNC.shape[1], keys.shape[1]
        before_NM = torch.ones(N, M, dtype=torch.bool, device=x_BNC.device).tril(M - N)
        return self.attention.attend(self.attention.q(x_BNC), keys, values, before_NM)


class LongShortMixing(SequenceMixer):
    """Attention of the first half of the channels, a gated convolution of the second; the halves do not meet.

    The weights of the convolution are positive and sum to 1 over the kernel, and are shared by the channels of a head.

    Args:
        dim: C.
        num_heads: of each half.
        kernel_size: K, odd. A causal convolution looks at the K last tokens, another at as many before as after.
        dynamic: each token says the weights of its own kernel, instead of one learned kernel for all.
    """

    can_be_causal = True

    def __init__(self, dim: int, num_heads: int, kernel_size: int = 7, dynamic: bool = True):
        require_odd(kernel_size=kernel_size)
        super().__init__()
        if dim % (2 * num_heads):
            raise ValueError(f"dim {dim} must be a multiple of twice num_heads ({num_heads})")
        half = dim // 2
        self.num_heads, self.kernel_size = num_heads, kernel_size
        self.far = FullMixing(half, num_heads)
        self.gated, self.proj = nn.Linear(half, 2 * half), nn.Linear(half, half)
        self.kernel = nn.Parameter(0.02 * torch.randn(num_heads, kernel_size)) if not dynamic else None
        self.weigh = nn.Linear(half, num_heads * kernel_size) if dynamic else None

    def forward(
        self, x_BNC: torch.Tensor, there_BN: torch.Tensor | None = None, *, causal: bool = False
    ) -> torch.Tensor:
        """(B, N, C)."""
        far_BNC, near_BNC = x_BNC.chunk(2, dim=-1)
        gated_BNC = F.glu(self.gated(near_BNC), dim=-1)
        if there_BN is not None:
            gated_BNC = gated_BNC * there_BN[..., None].to(gated_BNC.dtype)
        size = self.kernel_size
        around = (size - 1, 0) if causal else (size // 2, size // 2)
        near_BNC = self._convolved(F.pad(gated_BNC, (0, 0, *around)), self._weights(gated_BNC))
        return torch.cat([self.far(far_BNC, there_BN, causal=causal), self.proj(near_BNC)], dim=-1)

    def go_on(self, x_BNC: torch.Tensor, cache: Cache) -> torch.Tensor:
        """(B, N, C); the cache holds that of the attention, and the last K - 1 gated tokens."""
        far_BNC, near_BNC = x_BNC.chunk(2, dim=-1)
        gated_BNC = F.glu(self.gated(near_BNC), dim=-1)
        before = cache.get("gated", gated_BNC.new_zeros(len(x_BNC), self.kernel_size - 1, gated_BNC.shape[-1]))
        padded_BPC = torch.cat([before, gated_BNC], dim=1)
        cache["gated"] = padded_BPC[:, padded_BPC.shape[1] - self.kernel_size + 1 :]
        near_BNC = self._convolved(padded_BPC, self._weights(gated_BNC))
        return torch.cat([self.far.go_on(far_BNC, cache.setdefault("far", {})), self.proj(near_BNC)], dim=-1)

    def _weights(self, gated_BNC: torch.Tensor) -> torch.Tensor:
        """(B, N, h, K), or (h, K) for all tokens; they sum to 1 over K."""
        if self.weigh is None:
            assert self.kernel is not None
            return self.kernel.softmax(dim=-1)
        return self.weigh(gated_BNC).unflatten(-1, (self.num_heads, -1)).softmax(dim=-1)

    def _convolved(self, padded_BPC: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """(B, N, C): each token's weighted sum of the K tokens from its own place on in the padded sequence."""
        windows_BNhdK = padded_BPC.unfold(1, self.kernel_size, 1).unflatten(2, (self.num_heads, -1))
        return (windows_BNhdK * weights[..., None, :]).sum(dim=-1).flatten(2)


class SummaryMixing(SequenceMixer):
    """Attention of all tokens to a fixed number of learned sums of them: linear in the number of tokens.

    Args:
        dim: C.
        num_heads: h.
        max_length: of a sequence.
        num_kept: M.
    """

    def __init__(self, dim: int, num_heads: int, max_length: int, num_kept: int = 32):
        require_positive(max_length=max_length, num_kept=num_kept)
        super().__init__()
        self.attention = CrossAttention(dim, num_heads)
        self.for_keys, self.for_values = (
            nn.Parameter(torch.randn(num_kept, max_length) / max_length**0.5) for _ in range(2)
        )

    def forward(
        self, x_BNC: torch.Tensor, there_BN: torch.Tensor | None = None, *, causal: bool = False
    ) -> torch.Tensor:
        """(B, N, C).

        Raises:
            ValueError: causal, or more tokens than the sums are of.
        """
        N, longest = x_BNC.shape[1], self.for_keys.shape[1]
        if causal:
            raise ValueError("sums of all tokens hold later ones: linformer is for encoders")
        if longest < N:
            raise ValueError(f"{N} tokens: max_length is {longest}")
        keys, values = self.attention.keys_and_values(x_BNC)
        if there_BN is not None:
            keys, values = (each * there_BN[..., None].to(each.dtype) for each in (keys, values))
        kept = self.for_keys[:, :N] @ keys, self.for_values[:, :N] @ values
        return self.attention.attend(self.attention.q(x_BNC), *kept)


class HashMixing(SequenceMixer):
    """Attention among tokens of one bucket.

    Args:
        dim: C.
        num_heads: h.
        options: further arguments of `HashAttention`: num_buckets, chunk_size, num_rounds.
    """

    def __init__(self, dim: int, num_heads: int, **options: int):
        super().__init__()
        self.attention = HashAttention(dim, num_heads, **options)

    def forward(
        self, x_BNC: torch.Tensor, there_BN: torch.Tensor | None = None, *, causal: bool = False
    ) -> torch.Tensor:
        """(B, N, C).

        Raises:
            ValueError: causal.
        """
        if causal:
            raise ValueError("which tokens share a chunk depends on later ones: lsh is for encoders")
        weight_BN = None if there_BN is None else there_BN.to(x_BNC.dtype)
        return self.attention(Tokens(x_BNC, None, 0, weight_BN))
