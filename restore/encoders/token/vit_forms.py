"""ViT in the forms that papers gave it: other stems, positions by convolution, parallel blocks, other norm placements.

| name | what differs from ViT | source |
|---|---|---|
| `conv_stem_vit` | 3x3 convolutions of stride 2 in place of patches | Xiao et al. 2021, arXiv 2106.14881 |
| `hmlp_vit` | patches made in three steps that do not look beyond them | Touvron et al. 2022, arXiv 2203.09795 |
| `parallel_vit` | two attentions side by side, then two feed-forward networks | Touvron et al. 2022, arXiv 2203.09795 |
| `cpvt` | positions by a depth-wise convolution after the first block | Chu et al. 2021, arXiv 2102.10882 |
| `deepnorm_vit` | norm after the sum, shortcut and first weights scaled by depth | Wang et al. 2022, arXiv 2203.00555 |
| `subln_vit` | a second norm before each output projection | Wang et al. 2022, arXiv 2210.06423 |

None of them has published weights; the reference of the first is pycls (MIT), of `hmlp_vit` and `parallel_vit`
github.com/facebookresearch/deit (Apache-2.0), whose keys are kept, of the last two torchscale (MIT). The first three
were checked against official code, the others against parameter counts of the papers and closed forms.

B batch, H x W image, C channels, N patches.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import nn

from restore.encoders.base import Normalisation
from restore.encoders.heads import LinearHead
from restore.encoders.staged import split_depths
from restore.encoders.token.class_token import ClassTokenEncoder
from restore.layers.arguments import require_positive
from restore.layers.block import MetaFormerBlock
from restore.layers.build import build_norm
from restore.layers.ffn import MLP
from restore.layers.mixers.attention.full import SelfAttention
from restore.layers.padding import pad_to_multiple
from restore.layers.patches import patch_projection
from restore.layers.position import ConvPosition
from restore.layers.residual import DropPath, LayerScale
from restore.layers.token_selection import TokenSelector, run_with_selection, selection_places
from restore.layers.tokens import Tokens
from restore.registry import ENCODERS, NormOption, PlacementOption

__all__ = ["HierarchicalStem", "ViTForm"]

_TINY: dict[str, Any] = {"embed_dim": 192, "num_heads": 3}
_SMALL: dict[str, Any] = {"embed_dim": 384, "num_heads": 6}
_BASE: dict[str, Any] = {"embed_dim": 768, "num_heads": 12}
_DEIT_NORM = {"type": "layer", "eps": 1e-6}
_PLAIN = {"tiny": _TINY, "small": _SMALL, "base": _BASE}
_CONV_STEMS = {  # a block less than the ViT of the same cost
    "1gf": {**_TINY, "depth": 11, "mlp_ratio": 3.0, "stem_widths": (24, 48, 96, 192)},
    "4gf": {**_SMALL, "depth": 11, "mlp_ratio": 3.0, "stem_widths": (48, 96, 192, 384)},
    "18gf": {**_BASE, "depth": 11, "stem_widths": (64, 128, 128, 256, 256, 512)},
    "36gf": {"embed_dim": 1024, "num_heads": 16, "depth": 13, "stem_widths": (64, 128, 128, 256, 256, 512)},
}


@ENCODERS.add("conv_stem_vit", variants=_CONV_STEMS, stem="conv")
@ENCODERS.add("hmlp_vit", variants=_PLAIN, stem="hmlp", norm=_DEIT_NORM)
@ENCODERS.add(
    "parallel_vit",
    variants={
        "small_18x2": {**_SMALL, "depth": 18, "layer_scale": 1e-5},
        "base_18x2": {**_BASE, "depth": 18, "layer_scale": 1e-5},
    },
    num_parallel=2,
    norm=_DEIT_NORM,
)
@ENCODERS.add(
    "cpvt",
    variants={**_PLAIN, **{f"{size}_gap": {**options, "class_token": False} for size, options in _PLAIN.items()}},
    position="conv",
)
@ENCODERS.add("deepnorm_vit", variants=_PLAIN, placement="deepnorm")
@ENCODERS.add("subln_vit", variants=_PLAIN, placement="sub-ln")
class ViTForm(ClassTokenEncoder):
    """A map of stride `patch_size` for each block.

    Args:
        in_chans: channels of the image.
        out_indices: which blocks' maps to return; None for the last three.
        normalisation: see `Encoder`.
        img_size: side of the images that a table of positions is made for, in pixels.
        patch_size: side of a patch; 16 where the stem is "conv" or "hmlp".
        embed_dim: channels.
        depth: blocks.
        num_heads: attention heads.
        mlp_ratio: hidden width of the feed-forward networks, in channels.
        qkv_bias: whether queries, keys and values have a bias.
        qk_scale: factor of the scores; None: one over the square root of a head's channels.
        stem: "patch" one linear map for each patch, "conv" convolutions, "hmlp" `HierarchicalStem`.
        stem_widths: channels of the convolutions; four of them have stride 2.
        position: "table" learned vectors, "conv" a depth-wise convolution after the first block.
        class_token: whether there is one.
        num_parallel: branches of each kind that stand side by side.
        placement: where norms stand; a registered placement.
        norm: a registered norm.
        layer_scale: first value of a learned factor of each branch; None leaves it out.
        drop_path: probability that the last block is dropped in training; less before it.
        keep: share of the patches that are kept each time at a quarter, half and three quarters of the blocks; below 1
            the others take part no more, and stay in the map as they were. See `restore.layers.token_selection`.
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
        num_heads: int = 3,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        qk_scale: float | None = None,
        stem: Literal["patch", "conv", "hmlp"] = "patch",
        stem_widths: Sequence[int] = (24, 48, 96, 192),
        position: Literal["table", "conv"] = "table",
        class_token: bool = True,
        num_parallel: int = 1,
        placement: PlacementOption = "pre",
        norm: NormOption = "layer",
        layer_scale: float | None = None,
        drop_path: float = 0.0,
        keep: float = 1.0,
    ):
        require_positive(num_parallel=num_parallel)
        if not 0 < keep <= 1:
            raise ValueError(f"keep is {keep:g}: it is a share of the patches, above 0 and at most 1")
        if stem != "patch" and patch_size != 16:
            raise ValueError(f"patch_size is {patch_size}: the stem '{stem}' makes patches of 16 px")
        super().__init__(
            in_chans,
            dim=embed_dim,
            num_blocks=depth,
            patch_px=patch_size,
            img_size=img_size if position == "table" else None,
            out_indices=out_indices,
            norm_eps=float(norm.get("eps", 1e-5)) if isinstance(norm, Mapping) else 1e-5,
            normalisation=normalisation,
            class_token=class_token,
        )
        self.patch_embed = _stem(stem, in_chans, embed_dim, patch_size, stem_widths)
        self.peg = ConvPosition(embed_dim) if position == "conv" else None
        (rates,) = split_depths([depth], drop_path)
        self.keep = keep
        if num_parallel > 1:
            if placement != "pre":
                raise ValueError("parallel branches have their norms before them: placement must be 'pre'")
            attention = {"num_heads": num_heads, "qkv_bias": qkv_bias, "qk_scale": qk_scale}
            self.stack = nn.ModuleList(
                _ParallelBlock(embed_dim, attention, mlp_ratio, num_parallel, norm, layer_scale, rate) for rate in rates
            )
            self._add_selectors(embed_dim)
            return
        self.stack = nn.ModuleList(
            MetaFormerBlock(
                embed_dim,
                SelfAttention(embed_dim, num_heads, qkv_bias, qk_scale=qk_scale),
                MLP(embed_dim, mlp_ratio),
                norm=norm,
                placement=placement,
                layer_scale=layer_scale,
                drop_path=rate,
                index=index,
                num_blocks=depth,
            )
            for index, rate in enumerate(rates)
        )
        self._add_selectors(embed_dim)

    def _add_selectors(self, dim: int) -> None:
        places = selection_places(len(self.stack)) if self.keep < 1 else ()
        self.selectors = nn.ModuleList(TokenSelector(dim) for _ in places)

    def run_blocks(self, tokens: Tokens) -> tuple[list[torch.Tensor], Tokens]:
        """One map for each block, and the tokens after the last of them."""
        return self._run_selecting(tokens)[:2] if len(self.selectors) else super().run_blocks(tokens)

    def kept_tokens(self, x_BCHW: torch.Tensor) -> list[torch.Tensor]:
        """Which patches are kept at each place, (B, rows, columns) of 1 and 0; no places where all are kept."""
        if not len(self.selectors):
            return []
        padded = pad_to_multiple(self.normalise(x_BCHW), self.size_multiple)
        return self._run_selecting(self.embed(padded))[2]

    def prune_to_maps(self) -> None:
        """Remove the last norm, the blocks after the last chosen map, and what leaves tokens out for these alone."""
        whole = len(self.stack)
        super().prune_to_maps()
        if len(self.selectors) and len(self.stack) < whole:
            self._add_selectors(self.channels[0])

    def _run_selecting(self, tokens: Tokens) -> tuple[list[torch.Tensor], Tokens, list[torch.Tensor]]:
        selectors = [each for each in self.selectors if isinstance(each, TokenSelector)]
        return run_with_selection(tokens, list(self.stack), self.block, selectors, self.keep)

    def block(self, block: nn.Module, tokens: Tokens) -> Tokens:
        """The block, and after the first one positions by convolution."""
        tokens = block(tokens)
        if self.peg is None or block is not self.stack[0]:
            return tokens
        return tokens.with_map(self.peg(tokens.map_BHWC()).permute(0, 3, 1, 2))

    def published_key(self, key: str) -> str:
        """The names of the official code of `hmlp_vit` and `parallel_vit`, which are those of ViT for all."""
        key = re.sub(r"^patch_embed\.", "patch_embed.proj.", super().published_key(key))
        key = re.sub(r"\.scale(\d)\.gamma$", r".gamma_\1", key)
        return re.sub(r"\.(norms|scales|mixers|ffns)(\d?)\.(\d+)\.(gamma$)?", _published_branch, key)

    def fitted(self, state: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
        """Official weights, in whose table the class token has no place: it gets one that adds nothing."""
        table, own = state.get("pos_embed"), self.pos_embed
        if table is None or own is None or not self.num_prefix or own.shape[1] - table.shape[1] != 1:
            return state
        return {**state, "pos_embed": torch.cat([torch.zeros_like(table[:, :1]), table], dim=1)}

    def head(self, num_classes: int) -> nn.Module:
        """One linear layer on the class token, or on the mean of the patches."""
        return LinearHead(self._declared[-1][0], num_classes, pooling="tokens")


class HierarchicalStem(nn.Sequential):
    """Patches of 16 px made in steps of 4, 2 and 2, none of which looks beyond its own patch (hMLP, arXiv 2203.09795).

    So hiding a patch before the stem in evaluation is the same as hiding its token after it.
    """

    def __init__(self, in_chans: int, dim: int):
        quarter = dim // 4
        super().__init__(
            patch_projection(in_chans, quarter, 4), nn.BatchNorm2d(quarter), nn.GELU(),
            patch_projection(quarter, quarter, 2), nn.BatchNorm2d(quarter), nn.GELU(),
            patch_projection(quarter, dim, 2), nn.BatchNorm2d(dim),
        )  # fmt: skip


def _published_branch(found: re.Match[str]) -> str:
    """The official name of one of several branches: the first has no number, the second 1."""
    kind, which, place = found.groups()[:3]
    place = place.removeprefix("0")
    if kind == "scales":
        return f".gamma_{which}_{place}".rstrip("_")
    name = {"norms": f"norm{which}", "mixers": "attn", "ffns": "mlp"}[kind]
    return f".{name}{place}."


def _stem(kind: str, in_chans: int, dim: int, patch_size: int, widths: Sequence[int]) -> nn.Module:
    if kind == "patch":
        return patch_projection(in_chans, dim, patch_size)
    if kind == "hmlp":
        return HierarchicalStem(in_chans, dim)
    if len(widths) < 4:
        raise ValueError(f"stem_widths has {len(widths)} entries: a stem of stride 16 has at least four convolutions")
    extra = len(widths) - 4  # convolutions of stride 1 stand after the second and the third of stride 2
    strides = {0: (2, 2, 2, 2), 1: (2, 2, 1, 2, 2), 2: (2, 2, 1, 2, 1, 2)}.get(extra, (2, 2, 2, 2, *(1,) * extra))
    layers: list[nn.Module] = []
    before = in_chans
    for width, stride in zip(widths, strides, strict=True):
        layers += [nn.Conv2d(before, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        before = width
    return nn.Sequential(*layers, nn.Conv2d(before, dim, 1))


class _ParallelBlock(nn.Module):
    """x + the sum of several attentions, then + the sum of several feed-forward networks; each has its own norm."""

    def __init__(
        self,
        dim: int,
        attention: Mapping[str, Any],
        mlp_ratio: float,
        num_parallel: int,
        norm: NormOption,
        layer_scale: float | None,
        drop_path: float,
    ):
        super().__init__()

        def scales() -> nn.ModuleList:
            return nn.ModuleList(
                nn.Identity() if layer_scale is None else LayerScale(dim, layer_scale) for _ in range(num_parallel)
            )

        self.norms1 = nn.ModuleList(build_norm(norm, dim) for _ in range(num_parallel))
        self.mixers = nn.ModuleList(SelfAttention(dim, **attention) for _ in range(num_parallel))
        self.norms2 = nn.ModuleList(build_norm(norm, dim) for _ in range(num_parallel))
        self.ffns = nn.ModuleList(MLP(dim, mlp_ratio) for _ in range(num_parallel))
        self.scales1, self.scales2 = scales(), scales()
        self.drop_path = DropPath(drop_path)

    def forward(self, tokens: Tokens) -> Tokens:
        for norms, branches, scales in (
            (self.norms1, self.mixers, self.scales1),
            (self.norms2, self.ffns, self.scales2),
        ):
            outputs = [
                self.drop_path(scale(branch(tokens.with_values(norm(tokens.x_BNC)))))
                for norm, branch, scale in zip(norms, branches, scales, strict=True)
            ]
            tokens = tokens.with_values(tokens.x_BNC + sum(outputs))
        return tokens
