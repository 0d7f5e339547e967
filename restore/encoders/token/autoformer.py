"""AutoFormer: the vision transformers that its search found, with heads and hidden widths of their own in every block.

Chen et al. 2021, arXiv 2107.00651. Official code: github.com/microsoft/Cream (`AutoFormer`, MIT), whose keys are kept.
Published weights are those of the whole search space, of which each network found is a part: `load_published` cuts it
out. Here images may have any size and shape; beyond `max_distance` patches all are equally far, as published.

B batch, H x W image, C channels, N tokens, h heads, d channels of a head, R x S patches of the image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import nn

from restore.encoders.base import IMAGENET, Normalisation
from restore.encoders.heads import LinearHead
from restore.encoders.staged import split_depths
from restore.encoders.token.class_token import ClassTokenEncoder
from restore.layers.block import MetaFormerBlock
from restore.layers.exportable import unflattened
from restore.layers.ffn import MLP
from restore.layers.mixers.base import TokenMixer
from restore.layers.patches import linear_patches
from restore.layers.residual import FixedScale
from restore.layers.tokens import Tokens
from restore.registry import ENCODERS

__all__ = ["AutoFormer"]

_TINY_HEADS = (3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 4, 3, 3)
_TINY_RATIOS = (3.5, 3.5, 3.0, 3.5, 3.0, 3.0, 4.0, 4.0, 3.5, 4.0, 3.5, 4.0, 3.5)
_SIZES: dict[str, dict[str, Any]] = {
    "tiny": {},
    "small": {
        "embed_dim": 384,
        "num_heads": (6, 6, 5, 7, 5, 5, 5, 6, 6, 7, 7, 6, 7),
        "mlp_ratios": (3.0, 3.5, 3.0, 3.5, 4.0, 4.0, 4.0, 4.0, 4.0, 4.0, 4.0, 3.5, 4.0),
    },
    "base": {
        "embed_dim": 576,
        "num_heads": (9, 9, 9, 9, 9, 10, 9, 9, 10, 9, 10, 9, 9, 10),
        "mlp_ratios": (3.5, 3.5, 4.0, 3.5, 4.0, 3.5, 3.5, 3.0, 4.0, 4.0, 3.0, 4.0, 3.0, 3.5),
    },
}
_RENAMED = {"norm1.": "attn_layer_norm.", "norm2.": "ffn_layer_norm.", "mixer.": "attn.", "ffn.": ""}


@ENCODERS.add("autoformer", variants=_SIZES)
class AutoFormer(ClassTokenEncoder):
    """A map of stride 16 for each block.

    Args:
        in_chans: channels of the image.
        out_indices: which blocks' maps to return; None for the last three.
        normalisation: see `Encoder`.
        img_size: side of the images that positions are made for, in pixels.
        patch_size: side of a patch.
        embed_dim: channels.
        num_heads: attention heads of every block.
        mlp_ratios: hidden widths of the feed-forward networks of every block, in channels.
        head_dim: channels of a head; None: the heads of a block divide `super_embed_dim` between them, as they do in a
            search space with `change_qkv` false.
        qkv_bias: whether queries, keys and values have a bias.
        max_distance: patches that are further apart, in rows or columns, count as this far; None: attention knows
            nothing of distances (`relative_position` false).
        positions: whether a learned table of them is added to the tokens (`abs_pos`).
        placement: norms before each branch as published ("pre"), or after each sum, with no last norm ("post").
        scaled: whether branches make up for channels that the search space has and the network does without (`scale`).
        super_embed_dim: channels of the search space; None: `embed_dim`.
        super_mlp_ratio: hidden width of its feed-forward networks, in channels, for `scaled`.
        qkv_in_turns: whether the rows of queries, keys and values take turns, as they do in weights of a search space
            that is the network itself; weights of a larger one are sorted when they are loaded.
        pooling: what a classifier's head looks at: the mean of the "patches" as published, or the class "token".
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
        num_heads: Sequence[int] = _TINY_HEADS,
        mlp_ratios: Sequence[float] = _TINY_RATIOS,
        head_dim: int | None = 64,
        qkv_bias: bool = True,
        max_distance: int | None = 14,
        positions: bool = True,
        placement: Literal["pre", "post"] = "pre",
        scaled: bool = False,
        super_embed_dim: int | None = None,
        super_mlp_ratio: float = 4.0,
        qkv_in_turns: bool = False,
        pooling: Literal["patches", "token"] = "patches",
        drop_path: float = 0.0,
    ):
        if len(num_heads) != len(mlp_ratios):
            raise ValueError(f"{len(num_heads)} num_heads and {len(mlp_ratios)} mlp_ratios: give one of both per block")
        super().__init__(
            in_chans,
            dim=embed_dim,
            num_blocks=len(num_heads),
            patch_px=patch_size,
            img_size=img_size if positions else None,
            out_indices=out_indices,
            normalisation=normalisation,
            weights_statistics=IMAGENET,
        )
        self.patch_embed, self.pooling = linear_patches(in_chans, embed_dim, patch_size), pooling
        self._shared, self._in_turns = head_dim is None, qkv_in_turns
        whole = embed_dim if super_embed_dim is None else super_embed_dim
        (rates,) = split_depths([len(num_heads)], drop_path)
        self.stack = nn.ModuleList()
        for heads, ratio, rate in zip(num_heads, mlp_ratios, rates, strict=True):
            if head_dim is None and whole % heads:
                raise ValueError(f"{heads} heads do not divide the {whole} channels of the search space: see head_dim")
            width, per_head = (whole, embed_dim // heads) if head_dim is None else (heads * head_dim, head_dim)
            attention = _Attention(embed_dim, heads, width, per_head**-0.5, qkv_bias, max_distance, qkv_in_turns)
            block = MetaFormerBlock(embed_dim, attention, MLP(embed_dim, ratio), placement=placement, drop_path=rate)
            if scaled:
                attention.factor, block.scale2 = whole / width, FixedScale(super_mlp_ratio / ratio)
            self.stack.append(block)
        if placement == "post":
            self.norm = nn.Identity()

    def published_key(self, key: str) -> str:
        """The names of the official code."""
        if not key.startswith("stack."):
            return key.replace("patch_embed.", "patch_embed_super.")
        _, number, rest = key.split(".", 2)
        own = next(name for name in _RENAMED if rest.startswith(name))
        return f"blocks.{number}.{_RENAMED[own]}{rest.removeprefix(own)}"

    def fitted(self, state: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
        """This network's part of the weights of a whole search space: the first rows and columns of each.

        There the rows of queries, keys and values take turns, while their biases do not; neither do where heads divide
        the channels between them.
        """
        wanted = {self.published_key(key): value.shape for key, value in self.state_dict().items()}
        compared = [key for key in wanted if key in state and (key == "cls_token" or key.startswith("blocks."))]
        if not any(_part(key, state[key], wanted[key]).shape != state[key].shape for key in compared):
            return state
        wanted["head.weight"] = wanted["cls_token"]
        sort = not (self._shared or self._in_turns)
        fitted = {}
        for key, value in state.items():
            if key.startswith("blocks.") and key not in wanted:  # of blocks that the network does without
                continue
            part = _part(key, value, wanted[key]) if key in wanted else value
            turns = sort and key.endswith("qkv.weight")
            fitted[key] = torch.cat([part[first::3] for first in range(3)]) if turns else part
        return fitted

    def head(self, num_classes: int) -> nn.Module:
        """One linear layer on the mean of the patch tokens, or on the class token."""
        dim = self._declared[-1][0]
        return LinearHead(dim, num_classes, pooling="patches" if self.pooling == "patches" else "tokens")


def _part(key: str, value: torch.Tensor, wanted: Sequence[int]) -> torch.Tensor:
    """The first channels of a weight of the search space; what it has of places, classes and colours stays."""
    of_last = key in ("cls_token", "head.weight", "pos_embed") or ".embeddings_table_" in key
    if of_last:
        return value[..., : wanted[-1]]
    if key.startswith("patch_embed"):
        return value[: wanted[0]]
    return value[tuple(slice(size) for size in wanted)]


class _Attention(TokenMixer):
    """Heads of a given width; keys and values know how many rows and columns they are away from the query."""

    rel_pos_embed_k: _Distances | None
    rel_pos_embed_v: _Distances | None

    def __init__(
        self,
        dim: int,
        num_heads: int,
        inner_dim: int,
        scale: float,
        qkv_bias: bool,
        max_distance: int | None,
        in_turns: bool,
    ):
        super().__init__(dim, inner_dim=inner_dim)
        self.num_heads, self.scale, self.factor, self.in_turns = num_heads, scale, 1.0, in_turns
        self.qkv = nn.Linear(dim, 3 * self.inner_dim, bias=qkv_bias)
        self.proj = nn.Linear(self.inner_dim, dim)
        for name in ("rel_pos_embed_k", "rel_pos_embed_v"):
            distances = None if max_distance is None else _Distances(inner_dim // num_heads, max_distance)
            self.register_module(name, distances)

    def mix_tokens(self, tokens: Tokens) -> torch.Tensor:
        """Attention of every token to every other of its image."""
        q, k, v = unflattened(self._queries_keys_values(tokens.x_BNC), 2, (3, self.num_heads, -1)).permute(
            2, 0, 3, 1, 4
        )
        scores = q @ k.transpose(-2, -1)
        if self.rel_pos_embed_k is None or self.rel_pos_embed_v is None:
            mixed_BhNd = (scores * self.scale).softmax(dim=-1) @ v
        else:
            R, S = tokens.map_BHWC().shape[1:3]
            map_BhNN = ((scores + self.rel_pos_embed_k.scores(q, R, S)) * self.scale).softmax(dim=-1)
            mixed_BhNd = map_BhNN @ v + self.rel_pos_embed_v.means(map_BhNN, R, S)
        joined_BNC = mixed_BhNd.transpose(1, 2).flatten(2)
        return joined_BNC if self.factor == 1 else joined_BNC * self.factor

    def _queries_keys_values(self, x_BNC: torch.Tensor) -> torch.Tensor:
        """(B, N, 3 C'): queries, keys and values; biases never take turns."""
        if not self.in_turns:
            return self.qkv(x_BNC)
        weight = self.qkv.weight.unflatten(0, (-1, 3)).transpose(0, 1).flatten(0, 1)
        return F.linear(x_BNC, weight, self.qkv.bias)


class _Distances(nn.Module):
    """A vector for each number of rows and one for each number of columns between two patches; first, of other tokens.

    The vector of two tokens is the sum of both. Nothing of the size of all pairs and channels is made.
    """

    embeddings_table_v: nn.Parameter
    embeddings_table_h: nn.Parameter

    def __init__(self, dim: int, max_distance: int):
        super().__init__()
        self.max_distance = max_distance
        for axis in "vh":
            table = nn.Parameter(torch.empty(2 * max_distance + 2, dim))
            nn.init.trunc_normal_(table, std=0.02)
            self.register_parameter(f"embeddings_table_{axis}", table)

    def scores(self, query_BhNd: torch.Tensor, R: int, S: int) -> torch.Tensor:
        """(B, h, N, N): products of each query with the vector of each pair."""
        rows_RRd, columns_SSd, other_d = self._vectors(R, S, query_BhNd.dtype)
        num_prefix = query_BhNd.shape[2] - R * S
        patches = unflattened(query_BhNd[:, :, num_prefix:], 2, (R, S))
        by_row = torch.einsum("bhrsd,rkd->bhrsk", patches, rows_RRd)
        by_column = torch.einsum("bhrsd,skd->bhrsk", patches, columns_SSd)
        of_patches = (by_row[..., None] + by_column[..., None, :]).flatten(4).flatten(2, 3)
        of_others = (query_BhNd @ other_d)[..., None]
        first, rest = of_others[:, :, :num_prefix], of_others[:, :, num_prefix:]
        below = torch.cat([rest.expand(-1, -1, -1, num_prefix), of_patches], dim=-1)
        return torch.cat([first.expand(-1, -1, -1, below.shape[-1]), below], dim=2)

    def means(self, map_BhNN: torch.Tensor, R: int, S: int) -> torch.Tensor:
        """(B, h, N, d): means of the vectors of each query's pairs, by the weights of the map."""
        rows_RRd, columns_SSd, other_d = self._vectors(R, S, map_BhNN.dtype)
        num_prefix = map_BhNN.shape[2] - R * S
        first = map_BhNN[:, :, :num_prefix].sum(dim=-1, keepdim=True) * other_d
        patches = unflattened(unflattened(map_BhNN[:, :, num_prefix:, num_prefix:], 3, (R, S)), 2, (R, S))
        by_row = torch.einsum("bhrsk,rkd->bhrsd", patches.sum(dim=-1), rows_RRd)
        by_column = torch.einsum("bhrsk,skd->bhrsd", patches.sum(dim=-2), columns_SSd)
        to_others = map_BhNN[:, :, num_prefix:, :num_prefix].sum(dim=-1, keepdim=True) * other_d
        return torch.cat([first, (by_row + by_column).flatten(2, 3) + to_others], dim=2)

    def _vectors(self, R: int, S: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(R, R, d) and (S, S, d), queries first, and (d,) for tokens that are no patches."""
        rows_Td, columns_Td = self.embeddings_table_v.to(dtype), self.embeddings_table_h.to(dtype)
        along = []
        for table_Td, size in ((rows_Td, R), (columns_Td, S)):
            places = torch.arange(size, device=table_Td.device)
            distances = (places - places[:, None]).clamp(-self.max_distance, self.max_distance)
            along.append(F.embedding(distances + self.max_distance + 1, table_Td))
        return along[0], along[1], rows_Td[0] + columns_Td[0]
