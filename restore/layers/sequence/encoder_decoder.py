"""An encoder-decoder for sequences of tokens, with its variants by name.

    transformer  attention of all to all, wide feed-forward networks: Vaswani et al. 2017, arXiv 1706.03762
    lite         long-short range attention, flat feed-forward networks: Wu et al. 2020, arXiv 2004.11886
    delight      one head, feed-forward networks that grow with depth: Mehta et al. 2020, arXiv 2008.00623
    linformer    an encoder that attends to sums: Wang et al. 2020, arXiv 2006.04768
    reformer     an encoder that attends within buckets: Kitaev et al. 2020, arXiv 2001.04451

What a decoder does with its own tokens must not see later ones, which sums and buckets hold: there, linformer and
reformer attend to all. DeLighT's units stand in the place of the feed-forward network, not before attention.

Shape legend: B batch, N tokens of the source, T of the target, C channels, V different tokens.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import nn

from restore.layers.arguments import require_positive
from restore.layers.build import build_feed_forward, build_norm, build_placement
from restore.layers.cross_attention import CrossAttention
from restore.layers.sequence.mixing import (
    Cache,
    FullMixing,
    HashMixing,
    LongShortMixing,
    SequenceMixer,
    SummaryMixing,
)
from restore.registry import FeedForwardOption, NormOption, PlacementOption

__all__ = ["KINDS", "EncoderDecoder", "sinusoids"]

KINDS: Mapping[str, Mapping[str, Any]] = {
    "transformer": {"attention": "full", "feed_forward": {"type": "mlp", "activation": "relu"}},
    "lite": {"attention": "lite", "feed_forward": {"type": "mlp", "mlp_ratio": 1.0, "activation": "relu"}},
    "delight": {"attention": "full", "num_heads": 1, "feed_forward": "light"},
    "linformer": {"attention": "linformer", "feed_forward": {"type": "mlp", "activation": "relu"}},
    "reformer": {"attention": "lsh", "feed_forward": {"type": "mlp", "activation": "relu"}, "placement": "pre"},
}
"""The arguments of `EncoderDecoder` that make each variant."""

KERNEL_SIZES = (3, 7, 15, 31)
"""Of Lite Transformer's convolutions, layer by layer; the last one for all further layers."""


class EncoderDecoder(nn.Module):
    """From a sequence of tokens to logits of another one.

    Args:
        num_tokens: V; source and target share their embedding.
        dim: C.
        num_heads: of every attention.
        num_layers: of the encoder, and of the decoder.
        attention: how tokens of one sequence see each other: see `restore.layers.sequence.mixing`.
        feed_forward: by name or block.
        norm: by name or block.
        placement: where the norms stand, by name or block.
        max_length: of a source, for linformer.
        num_kept: sums that linformer attends to.
        num_buckets: of lsh.
        chunk_size: of lsh.
        dropout: of embeddings and branches, in training.
    """

    def __init__(
        self,
        num_tokens: int,
        dim: int = 64,
        num_heads: int = 4,
        num_layers: int = 2,
        *,
        attention: Literal["full", "lite", "linformer", "lsh"] = "full",
        feed_forward: FeedForwardOption = "mlp",
        norm: NormOption = "layer",
        placement: PlacementOption = "post",
        max_length: int = 512,
        num_kept: int = 32,
        num_buckets: int = 8,
        chunk_size: int = 32,
        dropout: float = 0.0,
    ):
        require_positive(num_tokens=num_tokens, dim=dim, num_layers=num_layers)
        super().__init__()
        self.dim = dim

        def mixing(index: int, decoding: bool) -> SequenceMixer:
            if attention == "lite":
                return LongShortMixing(dim, num_heads, KERNEL_SIZES[min(index, len(KERNEL_SIZES) - 1)])
            if attention == "full" or decoding:
                return FullMixing(dim, num_heads)
            if attention == "linformer":
                return SummaryMixing(dim, num_heads, max_length, num_kept)
            return HashMixing(dim, num_heads, num_buckets=num_buckets, chunk_size=chunk_size)

        def layer(index: int, decoding: bool) -> _Layer:
            return _Layer(
                dim,
                mixing(index, decoding),
                CrossAttention(dim, num_heads) if decoding else None,
                build_feed_forward(feed_forward, dim, index=index, num_blocks=num_layers),
                norm=norm,
                placement=placement,
                index=index,
                num_blocks=num_layers,
                dropout=dropout,
            )

        self.embedding = nn.Embedding(num_tokens, dim)
        nn.init.normal_(self.embedding.weight, std=dim**-0.5)
        self.dropout = nn.Dropout(dropout)
        self.encoder = nn.ModuleList(layer(index, False) for index in range(num_layers))
        self.decoder = nn.ModuleList(layer(index, True) for index in range(num_layers))
        self.norms = nn.ModuleList(nn.Identity() if _ends_normed(placement) else build_norm(norm, dim) for _ in "ed")

    @classmethod
    def of_kind(cls, kind: str, num_tokens: int, **options: Any) -> EncoderDecoder:
        """A variant by name, with further arguments."""
        if kind not in KINDS:
            raise ValueError(f"unknown variant '{kind}': {', '.join(KINDS)} are known")
        return cls(num_tokens, **{**KINDS[kind], **options})

    def forward(
        self, source_BN: torch.Tensor, target_BT: torch.Tensor, there_BN: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Logits (B, T, V) of the token after each of the target, from those before it.

        Args:
            source_BN: numbers of tokens.
            target_BT: likewise, beginning with a token that starts a sequence.
            there_BN: true where the source has a token, false for padding; None for all.
        """
        return self.decode(target_BT, self.encode(source_BN, there_BN), there_BN)

    def encode(self, source_BN: torch.Tensor, there_BN: torch.Tensor | None = None) -> torch.Tensor:
        """(B, N, C)."""
        x_BNC = self._embedded(source_BN, 0)
        for layer in self.encoder:
            x_BNC = layer(x_BNC, there_BN=there_BN)
        return self.norms[0](x_BNC)

    def decode(
        self,
        target_BT: torch.Tensor,
        memory_BNC: torch.Tensor,
        there_BN: torch.Tensor | None = None,
        caches: Sequence[Cache] | None = None,
    ) -> torch.Tensor:
        """Logits (B, T, V); with caches, one for each layer, the target goes on after that of the calls before."""
        first = caches[0].get("length", 0) if caches else 0
        x_BTC = self._embedded(target_BT, first)
        for number, layer in enumerate(self.decoder):
            x_BTC = layer(x_BTC, memory_BNC, there_BN=there_BN, cache=caches[number] if caches else None)
        if caches:
            caches[0]["length"] = first + target_BT.shape[1]
        return self.norms[1](x_BTC) @ self.embedding.weight.T

    @torch.no_grad()
    def generate(
        self, source_BN: torch.Tensor, start: int, length: int, there_BN: torch.Tensor | None = None
    ) -> torch.Tensor:
        """(B, length): the likeliest token each time, decoded one by one; every step costs one token."""
        memory_BNC = self.encode(source_BN, there_BN)
        caches: list[Cache] = [{} for _ in self.decoder]
        last_B1 = torch.full((len(source_BN), 1), start, device=source_BN.device)
        found = []
        for _ in range(length):
            last_B1 = self.decode(last_B1, memory_BNC, there_BN, caches).argmax(dim=-1)
            found.append(last_B1)
        return torch.cat(found, dim=1)

    def _embedded(self, tokens_BN: torch.Tensor, first: int) -> torch.Tensor:
        places_NC = sinusoids(tokens_BN.shape[1], self.dim, first, device=tokens_BN.device)
        vectors_BNC = self.embedding(tokens_BN) * math.sqrt(self.dim)
        return self.dropout(vectors_BNC + places_NC.to(vectors_BNC.dtype))


class _Layer(nn.Module):
    """Mixing, in a decoder attention to the memory, and a feed-forward network, each with its norm and residual."""

    def __init__(
        self,
        dim: int,
        mixing: SequenceMixer,
        crossing: CrossAttention | None,
        ffn: nn.Module | None,
        *,
        norm: NormOption,
        placement: PlacementOption,
        index: int,
        num_blocks: int,
        dropout: float,
    ):
        super().__init__()
        self.mixing, self.crossing, self.ffn = mixing, crossing, ffn
        self.placement = build_placement(placement, index, num_blocks)
        self.norms = nn.ModuleList(build_norm(norm, dim) for _ in range(3 if crossing is not None else 2))
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x_BNC: torch.Tensor,
        memory_BMC: torch.Tensor | None = None,
        *,
        there_BN: torch.Tensor | None = None,
        cache: Cache | None = None,
    ) -> torch.Tensor:
        """(B, N, C); `there_BN` is of the source, which is the memory in a decoder."""

        def mixed(x: torch.Tensor) -> torch.Tensor:
            if memory_BMC is None:
                return self.mixing(x, there_BN)
            return self.mixing(x, causal=True) if cache is None else self.mixing.go_on(x, cache.setdefault("own", {}))

        def crossed(x: torch.Tensor) -> torch.Tensor:
            assert self.crossing is not None
            assert memory_BMC is not None
            mask = None if there_BN is None else there_BN[:, None, None]
            kept: Cache = {} if cache is None else cache
            if "memory" not in kept:
                kept["memory"] = self.crossing.keys_and_values(memory_BMC)
            keys, values = kept["memory"]
            return self.crossing.attend(self.crossing.q(x), keys, values, mask)

        branches: list[Callable[[torch.Tensor], torch.Tensor]] = [mixed]
        branches += [crossed] if memory_BMC is not None else []
        branches += [self.ffn] if self.ffn is not None else []
        for branch, norm in zip(branches, self.norms, strict=False):
            output = branch(self.placement.before(x_BNC, norm))
            x_BNC = self.placement.join(x_BNC, self.dropout(self.placement.after(output, norm)), norm)
        return x_BNC


def sinusoids(length: int, dim: int, first: int = 0, device: torch.device | None = None) -> torch.Tensor:
    """(length, C): sin(p / 10000^(2i / C)) in channel 2i and the cosine in 2i + 1, for places p from `first` on.

    Vaswani et al. 2017, arXiv 1706.03762, section 3.5. A step of k places turns each pair by an angle that only k and
    the pair tell.
    """
    if dim % 2:
        raise ValueError(f"sinusoidal positions need an even width, given {dim}")
    rates = 10_000.0 ** (-torch.arange(0, dim, 2, device=device, dtype=torch.float64) / dim)
    angles = torch.arange(first, first + length, device=device, dtype=torch.float64)[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1).float()


def _ends_normed(placement: PlacementOption) -> bool:
    """Whether the stream is normed after its last branch, so that no further norm is needed."""
    name = placement if isinstance(placement, str) else placement["type"]
    return name in ("post", "deepnorm")
