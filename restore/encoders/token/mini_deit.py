"""Mini-DeiT: a ViT whose neighbouring blocks share their weights, but not norms, positions and mixing of heads.

MiniViT, Zhang et al. 2022, arXiv 2204.07154. Official code: github.com/microsoft/Cream (`MiniViT`, MIT), whose keys are
kept. Positions are those of iRPE on the keys, besides a table. Here images may have any size.

B batch, H x W image, C channels, N patches, h heads, d channels of a head.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from restore.encoders.base import IMAGENET, Normalisation
from restore.encoders.staged import split_depths
from restore.encoders.token.class_token import ClassTokenEncoder
from restore.layers.arguments import require_positive
from restore.layers.ffn import MLP
from restore.layers.mixers.attention.full import SelfAttention
from restore.layers.mixers.attention.talking_heads import HeadMixing
from restore.layers.patches import linear_patches
from restore.layers.relative_position import ContextualBias
from restore.layers.residual import DropPath
from restore.layers.tokens import Tokens
from restore.registry import ENCODERS

__all__ = ["MiniDeiT"]

_BASE = {"embed_dim": 768, "num_heads": 12}
_SIZES = {
    "tiny": {},
    "small": {"embed_dim": 384, "num_heads": 6},
    "base": _BASE,
    "base_384": {**_BASE, "img_size": 384},
}
_RENAMED = {
    "norm1.": "norm1.instances.",
    "norm2.": "norm2.instances.",
    "mixer.relatives.": "attn.rpe_k.instances.",
    "mixer.before.": "attn.conv_l.instances.",
    "mixer.after.": "attn.conv_w.instances.",
    "mixer.": "attn.",
    "ffn.": "mlp.",
}


@ENCODERS.add("mini_deit", variants=_SIZES)
class MiniDeiT(ClassTokenEncoder):
    """A map of stride 16 for each set of weights: those of a set are one block, which runs several times.

    Args:
        in_chans: channels of the image.
        out_indices: which maps to return; None for the last three.
        normalisation: see `Encoder`.
        img_size: side of the images that positions are made for, in pixels.
        patch_size: side of a patch.
        embed_dim: channels.
        depth: times that a block runs, in all; a multiple of `num_repeats`.
        num_repeats: times that each block runs.
        num_heads: attention heads.
        mlp_ratio: hidden width of the feed-forward networks, in channels.
        qkv_bias: whether queries, keys and values have a bias.
        qk_scale: factor of the scores; None: one over the square root of a head's channels.
        relative_position: whether scores depend on the way between patches (`rpe_config` of published networks).
        head_mixing: whether maps go through a matrix over heads before and after softmax (`use_transform`).
        class_token: whether there is one; published networks do without.
        norm_eps: of the norms.
        drop_path: probability that the last block is dropped in training; less before it.
    """

    def __init__(
        self,
        in_chans: int = 3,
        out_indices: Sequence[int] | None = None,
        normalisation: Normalisation = "symmetric",
        img_size: int = 224,
        patch_size: int = 16,
        embed_dim: int = 192,
        depth: int = 12,
        num_repeats: int = 2,
        num_heads: int = 3,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        qk_scale: float | None = None,
        relative_position: bool = True,
        head_mixing: bool = True,
        class_token: bool = False,
        norm_eps: float = 1e-6,
        drop_path: float = 0.0,
    ):
        require_positive(num_repeats=num_repeats)
        if depth % num_repeats:
            raise ValueError(f"depth {depth} must be a multiple of num_repeats {num_repeats}")
        num_blocks = depth // num_repeats
        super().__init__(
            in_chans,
            dim=embed_dim,
            num_blocks=num_blocks,
            patch_px=patch_size,
            img_size=img_size,
            norm_eps=norm_eps,
            class_token=class_token,
            out_indices=out_indices,
            normalisation=normalisation,
            weights_statistics=IMAGENET,
        )
        self.patch_embed = linear_patches(in_chans, embed_dim, patch_size)
        self.stack = nn.ModuleList()
        for rates in split_depths([num_repeats] * num_blocks, drop_path):
            attention = _SharedAttention(embed_dim, num_heads, qkv_bias, qk_scale)
            attention.add_sets(num_repeats, relative_position, head_mixing, class_token)
            self.stack.append(_Block(attention, mlp_ratio, norm_eps, rates))

    def published_key(self, key: str) -> str:
        """The names of the official code."""
        if not key.startswith("stack."):
            return key
        _, number, rest = key.split(".", 2)
        own = next(name for name in _RENAMED if rest.startswith(name))
        return f"blocks.{number}.block.{_RENAMED[own]}{rest.removeprefix(own)}"


class _Block(nn.Module):
    """One set of weights that runs as often as there are `rates` of dropping it."""

    def __init__(self, attention: _SharedAttention, mlp_ratio: float, norm_eps: float, rates: Sequence[float]):
        super().__init__()
        dim = attention.dim
        self.norm1, self.norm2 = (nn.ModuleList(nn.LayerNorm(dim, norm_eps) for _ in rates) for _ in range(2))
        self.mixer, self.ffn = attention, MLP(dim, mlp_ratio)
        self.drop_paths = nn.ModuleList(DropPath(rate) for rate in rates)

    def forward(self, tokens: Tokens) -> Tokens:
        for number, drop_path in enumerate(self.drop_paths):
            attended = self.mixer.attend(tokens.with_values(self.norm1[number](tokens.x_BNC)), number)
            x_BNC = tokens.x_BNC + drop_path(attended)
            tokens = tokens.with_values(x_BNC + drop_path(self.ffn(self.norm2[number](x_BNC))))
        return tokens


class _SharedAttention(SelfAttention):
    """Attention with several sets of positions and of matrices over heads, where it has these."""

    def __init__(self, dim: int, num_heads: int, qkv_bias: bool, qk_scale: float | None):
        super().__init__(dim, num_heads, qkv_bias, qk_scale=qk_scale)

    def add_sets(self, count: int, relative_position: bool, head_mixing: bool, class_token: bool) -> None:
        """As many as the block runs."""
        head_dim = self.dim // self.num_heads
        self.relatives = nn.ModuleList(
            ContextualBias(head_dim, others=class_token) for _ in range(count * relative_position)
        )
        self.before, self.after = (
            nn.ModuleList(HeadMixing(self.num_heads, bias=False) for _ in range(count * head_mixing)) for _ in range(2)
        )

    def attend(self, tokens: Tokens, number: int) -> torch.Tensor:
        """(B, N, C), with the set of this number."""
        q, k, v = self.queries_keys_values(tokens)
        q = q * self.scale_of_scores(q)
        scores_BhNN = q @ k.transpose(-2, -1)
        if len(self.relatives):
            relative = self.relatives[number]
            assert isinstance(relative, ContextualBias)
            assert tokens.grid is not None
            added = relative.scores_with_others if tokens.num_prefix else relative.scores
            scores_BhNN = scores_BhNN + added(q, tokens.grid)
        scores_BhNN = self.before[number](scores_BhNN) if len(self.before) else scores_BhNN
        map_BhNN = scores_BhNN.softmax(dim=-1)
        map_BhNN = self.after[number](map_BhNN) if len(self.after) else map_BhNN
        return self.project(self.joined(map_BhNN @ v, v, tokens))
