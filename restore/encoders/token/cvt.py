"""CvT: three stages of attention whose queries, keys and values come from depth-wise convolutions; no positions.

Wu et al. 2021, arXiv 2103.15808. Official code: github.com/leoxiaobin/CvT (MIT), whose keys are kept. As there, the
activation is x sigmoid(1.702 x), and scores are divided by the root of the whole width, not of that of a head; weights
converted for other libraries were trained with it all the same (`activation="gelu"` is what those libraries compute).

B batch, H x W image, C channels of a stage.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate
from operator import mul
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import nn

from restore.encoders.base import Encoder, Normalisation
from restore.encoders.features import Features
from restore.encoders.heads import LinearHead
from restore.encoders.staged import ChannelsFirstNorm, per_stage, split_depths
from restore.layers.arguments import require_exact, require_odd, require_positive
from restore.layers.ffn import MLP
from restore.layers.residual import DropPath
from restore.layers.tokens import Tokens
from restore.registry import ENCODERS

__all__ = ["CvT"]

_SIZES: dict[str, dict[str, Any]] = {
    "13": {"depths": (1, 2, 10)},
    "21": {"depths": (1, 4, 16)},
    "w24": {"depths": (2, 2, 20), "dims": (192, 768, 1024), "num_heads": (3, 12, 16)},
}


@ENCODERS.add("cvt", variants=_SIZES)
class CvT(Encoder):
    """Three maps of strides 4, 8 and 16, where `patch_strides` do not say otherwise, and the tokens of the last stage.

    Where it says so, there is one value for all stages, or one for each.

    Args:
        in_chans: channels of the image.
        out_indices: which maps to return; None for all.
        normalisation: see `Encoder`.
        dims: channels of the stages.
        depths: blocks of the stages.
        num_heads: attention heads of the stages.
        mlp_ratio: hidden width of the feed-forward networks, in channels; one value, or one for each stage.
        activation: "quick_gelu" as published, or "gelu".
        qkv_bias: whether queries, keys and values have a bias; one value, or one for each stage.
        class_token: whether the last stage has one; or true or false for each stage, where only that stage sees it.
        stride_kv: how much coarser the map of keys and values is; one value, or one for each stage.
        projection: what makes that map: a depth-wise convolution with a batch norm ("dw_bn"), which makes queries too,
            or means ("avg"), where queries are the tokens.
        kernel_qkv: side of these convolutions or of the squares of the means; one value, or one for each stage.
        padding_kv: zeros around the map for keys and values; None: as for queries, half the side.
        patch_sizes: sides of the convolutions that begin the stages.
        patch_strides: their strides.
        patch_paddings: zeros around the map for them.
        drop_path: probability that the last block is dropped in training; less before it.
    """

    def __init__(
        self,
        in_chans: int = 3,
        out_indices: Sequence[int] | None = None,
        normalisation: Normalisation = "symmetric",
        dims: Sequence[int] = (64, 192, 384),
        depths: Sequence[int] = (1, 2, 10),
        num_heads: Sequence[int] = (1, 3, 6),
        mlp_ratio: float | Sequence[float] = 4.0,
        activation: Literal["quick_gelu", "gelu"] = "quick_gelu",
        qkv_bias: bool | Sequence[bool] = True,
        class_token: bool | Sequence[bool] = True,
        stride_kv: int | Sequence[int] = 2,
        projection: Literal["dw_bn", "avg"] = "dw_bn",
        kernel_qkv: int | Sequence[int] = 3,
        padding_kv: int | None = None,
        patch_sizes: Sequence[int] = (7, 3, 3),
        patch_strides: Sequence[int] = (4, 2, 2),
        patch_paddings: Sequence[int] = (2, 1, 1),
        drop_path: float = 0.0,
    ):
        count = len(dims)
        convolutions = list(zip(patch_sizes, patch_strides, patch_paddings, strict=True))
        if len(convolutions) != count:
            raise ValueError(f"{count} stages (dims {dims}) and {len(convolutions)} patch_sizes: give one for each")
        for each in convolutions:
            require_exact("patches", *each)
        strides = list(accumulate(patch_strides, mul))
        super().__init__(
            in_chans,
            channels=dims,
            strides=strides,
            out_indices=out_indices,
            size_multiple=strides[-1],
            normalisation=normalisation,
        )
        ratios, sizes, steps = (per_stage(each, count) for each in (mlp_ratio, kernel_qkv, stride_kv))
        biases = per_stage(qkv_bias, count)
        tokens = (
            [False] * (count - 1) + [class_token] if isinstance(class_token, bool) else per_stage(class_token, count)
        )
        widths, self.stages = [in_chans, *dims], nn.ModuleList()
        for i, rates in enumerate(split_depths(depths, drop_path)):
            size = int(sizes[i])
            seen = (projection, size, int(steps[i]), size // 2 if padding_kv is None else padding_kv)
            blocks = (
                _Block(_ConvAttention(dims[i], num_heads[i], bool(biases[i]), *seen), ratios[i], activation, rate)
                for rate in rates
            )
            stage = _Stage(widths[i], dims[i], convolutions[i], blocks)
            if tokens[i]:
                stage.cls_token = nn.Parameter(torch.zeros(1, 1, dims[i]))
                nn.init.trunc_normal_(stage.cls_token, std=0.02)
            self.stages.append(stage)
        self.norm: nn.Module = nn.LayerNorm(dims[-1])

    def maps(self, x_BCHW: torch.Tensor) -> list[torch.Tensor]:
        """One map for each stage."""
        return self._run(x_BCHW)[0]

    def features(self, x_BCHW: torch.Tensor) -> Features:
        """One map for each stage, and the tokens of the last after a norm."""
        maps, tokens = self._run(x_BCHW)
        return Features(maps, tokens.with_values(self.norm(tokens.x_BNC)))

    def _run(self, x_BCHW: torch.Tensor) -> tuple[list[torch.Tensor], Tokens]:
        maps = []
        for stage in self.stages:
            tokens = stage(x_BCHW)
            x_BCHW = tokens.map_BCHW()
            maps.append(x_BCHW)
        return maps, tokens

    def blocks(self) -> Sequence[nn.Module]:
        """The blocks of all stages."""
        return [block for stage in self.stages for block in cast(_Stage, stage).blocks]

    def prune_to_maps(self) -> None:
        """Remove the last norm, and the stages after the last chosen one."""
        super().prune_to_maps()
        self.keep_maps()
        self.stages = self.stages[: self.num_maps]
        self.norm = nn.Identity()

    def published_key(self, key: str) -> str:
        """The names of the official code."""
        if not key.startswith("stages."):
            return key
        return f"stage{key.removeprefix('stages.')}"

    def head(self, num_classes: int) -> nn.Module:
        """One linear layer on the class token, or on the mean of the others where there is none."""
        return LinearHead(self._declared[-1][0], num_classes, pooling="tokens")


class _Stage(nn.Module):
    """(B, C, H, W) to the tokens of a map that is smaller by the stride of the convolution."""

    cls_token: nn.Parameter | None

    def __init__(self, in_chans: int, dim: int, convolution: tuple[int, int, int], blocks: Iterable[_Block]):
        super().__init__()
        self.patch_embed = nn.ModuleDict(
            {"proj": nn.Conv2d(in_chans, dim, *convolution), "norm": ChannelsFirstNorm(dim)}
        )
        self.blocks = nn.ModuleList(blocks)
        self.register_parameter("cls_token", None)

    def forward(self, x_BCHW: torch.Tensor) -> Tokens:
        x_BCHW = self.patch_embed["norm"](self.patch_embed["proj"](x_BCHW))
        tokens = Tokens.of_map(x_BCHW.permute(0, 2, 3, 1))
        if self.cls_token is not None:
            first = self.cls_token.expand(x_BCHW.shape[0], -1, -1)
            tokens = Tokens(torch.cat([first, tokens.x_BNC], dim=1), tokens.grid, 1)
        for block in self.blocks:
            tokens = block(tokens)
        return tokens


class _Block(nn.Module):
    def __init__(self, attention: _ConvAttention, mlp_ratio: float, activation: Any, drop_path: float):
        super().__init__()
        dim = attention.dim
        self.norm1, self.attn = nn.LayerNorm(dim), attention
        self.norm2, self.mlp = nn.LayerNorm(dim), MLP(dim, mlp_ratio, activation=activation)
        self.drop_path = DropPath(drop_path)

    def forward(self, tokens: Tokens) -> Tokens:
        attended = self.attn(tokens.with_values(self.norm1(tokens.x_BNC)))
        x_BNC = tokens.x_BNC + self.drop_path(attended)
        return tokens.with_values(x_BNC + self.drop_path(self.mlp(self.norm2(x_BNC))))


class _ConvAttention(nn.Module):
    """Attention of tokens that a depth-wise convolution makes, or means; keys and values on a map that is coarser."""

    def __init__(
        self, dim: int, num_heads: int, qkv_bias: bool, projection: str, size: int, stride_kv: int, padding_kv: int
    ):
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"dim {dim} must be a multiple of num_heads {num_heads}")
        require_positive(stride_kv=stride_kv)
        self.dim, self.num_heads, self.scale = dim, num_heads, dim**-0.5
        if projection == "dw_bn":
            require_odd(kernel_qkv=size)
        steps = {"q": (1, size // 2), "k": (stride_kv, padding_kv), "v": (stride_kv, padding_kv)}
        for name, (stride, padding) in steps.items():
            layers = nn.Sequential()
            if projection == "dw_bn":
                layers.add_module("conv", nn.Conv2d(dim, dim, size, stride, padding, groups=dim, bias=False))
                layers.add_module("bn", nn.BatchNorm2d(dim))
            elif name != "q":
                layers.add_module("avg", nn.AvgPool2d(size, stride, padding, ceil_mode=True))
            setattr(self, f"conv_proj_{name}", layers)
            setattr(self, f"proj_{name}", nn.Linear(dim, dim, bias=qkv_bias))
        self.proj = nn.Linear(dim, dim)

    def forward(self, tokens: Tokens) -> torch.Tensor:
        map_BCHW = tokens.map_BCHW()
        q, k, v = (self._heads(name, map_BCHW, tokens) for name in "qkv")
        mixed = F.scaled_dot_product_attention(q, k, v, scale=self.scale)
        return self.proj(mixed.transpose(1, 2).flatten(2))

    def _heads(self, name: str, map_BCHW: torch.Tensor, tokens: Tokens) -> torch.Tensor:
        seen_BNC = getattr(self, f"conv_proj_{name}")(map_BCHW).flatten(2).transpose(1, 2)
        if tokens.num_prefix:
            seen_BNC = torch.cat([tokens.prefix_BNC, seen_BNC], dim=1)
        return getattr(self, f"proj_{name}")(seen_BNC).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
