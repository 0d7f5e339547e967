"""HiT-SRF: super-resolution by windows that grow from block to block, and correlations in place of attention.

Zhang, Zhang, Yu 2024, arXiv 2407.05878; official code: github.com/XiangZ-0/HiT-SR (Apache-2.0), whose argument names,
keys and outputs these are. Around the blocks it is SwinIR.

What differs from the official code, none of it in the output: there is no softmax between the two products of a
correlation, so the keys meet the values first, and a window of N positions costs N times the width of a head instead of
N times 64; the bias of relative positions is averaged over the cells of keys before it is gathered, so that no N x N
table is made (N is 4096 in the largest windows); images of any size of at least 1 px are accepted.

Shape legend: B batch, H x W map, C channels, W (in WNC) windows, N positions of a window, M cells of keys of a window,
h heads, d channels of a head, R relative positions.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import nn

from restore.layers.arguments import require_positive
from restore.layers.ffn import PositionFeedForward
from restore.layers.layer_norm import LayerNorm
from restore.layers.padding import pad_to_multiple
from restore.layers.position_bias import gather_bias, mean_of_cells, relative_position_index, relative_positions
from restore.layers.precision import without_autocast
from restore.layers.residual import DropPath
from restore.layers.window import join_windows, split_windows, window_plan
from restore.networks.base import State
from restore.networks.residual_groups import (
    ResidualGroup,
    ResidualGroups,
    Upsampler,
    recognise_groups,
    stochastic_depth,
)
from restore.networks.spec import ImageSpec
from restore.registry import NETWORKS

__all__ = ["HiTSRF"]

Pair = tuple[int, int]


@NETWORKS.add("HiT_SRF")
class HiTSRF(ResidualGroups):
    """Restores (B, in_chans, H, W) in [0, 1] to (B, in_chans, H*upscale, W*upscale).

    The published network has 866,420 parameters at x4.

    Args:
        img_size: training patch side; only `ape` depends on it.
        patch_size: 1, the only published value.
        in_chans: 1 (grey) or 3 (RGB).
        embed_dim: C, a multiple of twice the heads.
        depths: blocks of each group.
        num_heads: heads of the correlation of positions in each group.
        base_win_size: rows and columns of the window to which `hier_win_ratios` refer.
        mlp_ratio: hidden width of the feed-forward network, in C.
        expansion_factor: what published option files call `mlp_ratio`; None: `mlp_ratio` says it.
        drop_rate: 0, the only published value.
        value_drop_rate: 0, the only published value.
        drop_path_rate: stochastic depth of the last block, rising linearly from 0; active in training only.
        ape: add a learned absolute position embedding (resized to other sizes than `img_size`).
        patch_norm: normalise the shallow features.
        use_checkpoint: recompute blocks in the backward pass, to save memory.
        upscale: s; 1 for denoising and JPEG.
        img_range: the network works on values in [0, img_range].
        upsampler: reconstruction, as in SwinIR.
        resi_connection: "1conv" or "3conv" at the end of each group.
        hier_win_ratios: sides of the windows of the blocks of a group, in `base_win_size`.

    Raises:
        ValueError: numbers that do not go together.
    """

    example = {"embed_dim": 16, "depths": [2], "num_heads": [2]}  # noqa: RUF012

    def __init__(
        self,
        img_size: int = 64,
        patch_size: Literal[1] = 1,
        in_chans: int = 3,
        embed_dim: int = 60,
        depths: Sequence[int] = (6, 6, 6, 6),
        num_heads: Sequence[int] = (6, 6, 6, 6),
        base_win_size: Sequence[int] = (8, 8),
        mlp_ratio: float = 2.0,
        drop_rate: Literal[0] | Literal[0.0] = 0,  # type: ignore[valid-type]  # pydantic takes it
        value_drop_rate: Literal[0] | Literal[0.0] = 0,  # type: ignore[valid-type]
        drop_path_rate: float = 0.0,
        ape: bool = False,
        patch_norm: bool = True,
        use_checkpoint: bool = False,
        upscale: int = 4,
        img_range: float = 1.0,
        upsampler: Upsampler | None = "pixelshuffledirect",
        resi_connection: Literal["1conv", "3conv"] = "1conv",
        hier_win_ratios: Sequence[float] = (0.5, 1, 2, 4, 6, 8),
        expansion_factor: float | None = None,
    ):
        super().__init__()
        mlp_ratio = mlp_ratio if expansion_factor is None else expansion_factor
        require_positive(in_chans=in_chans, img_size=img_size, embed_dim=embed_dim, depths=depths, num_heads=num_heads)
        require_positive(base_win_size=base_win_size, hier_win_ratios=hier_win_ratios, mlp_ratio=mlp_ratio)
        require_positive(upscale=upscale, img_range=img_range)
        if not depths or len(depths) != len(num_heads):
            raise ValueError(f"depths and num_heads name one group each: {len(depths)} and {len(num_heads)} given")
        if len(base_win_size) != 2:
            raise ValueError(f"base_win_size is {list(base_win_size)}: rows and columns, two numbers")
        if max(depths) > len(hier_win_ratios):
            raise ValueError(
                f"a group has {max(depths)} blocks, but hier_win_ratios only {len(hier_win_ratios)} windows"
            )
        if any(embed_dim % (2 * heads) for heads in num_heads) or embed_dim < 16:
            raise ValueError(
                f"embed_dim is {embed_dim}: at least 16, and divisible by twice num_heads {list(num_heads)}"
            )
        windows = [tuple(int(side * ratio) for side in base_win_size) for ratio in hier_win_ratios]
        self.use_checkpoint = use_checkpoint
        self.begin(in_chans, embed_dim, img_size, patch_norm=patch_norm, ape=ape)
        for heads, rates in zip(num_heads, stochastic_depth(drop_path_rate, depths), strict=True):
            blocks = [
                _Block(embed_dim, heads, (rows, columns), (base_win_size[0], base_win_size[1]), mlp_ratio, rate)
                for (rows, columns), rate in zip(windows, rates, strict=False)
            ]
            self.layers.append(ResidualGroup(blocks, embed_dim, resi_connection))
        self.finish(embed_dim, resi_connection, upscale, upsampler, img_range)

    @property
    def spec(self) -> ImageSpec:
        """What the network wants of its images."""
        return ImageSpec(scale=self.upscale, in_channels=self.in_chans, out_channels=self.in_chans)

    @classmethod
    def recognise(cls, state: State) -> dict[str, Any] | None:
        """The constructor's arguments, but for windows that are not square or larger than the published 64 px."""
        first = "layers.0.residual_group.blocks.{}.correlation"
        if f"{first.format(0)}.qv.linear.weight" not in state or "conv_first.weight" not in state:
            return None
        if "layers.0.residual_group.blocks.0.mlp.dwconv.depthwise_conv.0.weight" not in state:
            return None
        arguments = recognise_groups(state)
        heads = [
            state[f"layers.{group}.residual_group.blocks.0.correlation.pos.pos3.2.bias"].shape[0]
            for group in range(len(arguments["depths"]))
        ]
        return arguments | {"num_heads": heads}


class _Block(nn.Module):
    """A correlation and a feed-forward network, each normed before it joins the stream."""

    def __init__(self, dim: int, heads: int, window: Pair, base: Pair, mlp_ratio: float, drop_path: float):
        super().__init__()
        self.window = window
        self.norm1 = LayerNorm(dim)
        self.correlation = _Correlation(dim, heads, window, base)
        self.drop_path = DropPath(drop_path)
        self.norm2 = LayerNorm(dim)
        self.mlp = _FeedForward(dim, mlp_ratio)

    def forward(self, x_BHWC: torch.Tensor) -> torch.Tensor:
        _, H, W, _ = x_BHWC.shape
        padded_BHWC = pad_to_multiple(x_BHWC.permute(0, 3, 1, 2), self.window).permute(0, 2, 3, 1)
        x_BHWC = x_BHWC + self.drop_path(self.norm1(self.correlation(padded_BHWC)[:, :H, :W]))
        return x_BHWC + self.drop_path(self.norm2(self.mlp(x_BHWC)))


class _FeedForward(PositionFeedForward):
    """With a kernel of 5 and the published keys."""

    def __init__(self, dim: int, mlp_ratio: float):
        super().__init__(dim, mlp_ratio, kernel_size=5)
        self.dwconv = nn.Sequential(OrderedDict(depthwise_conv=nn.Sequential(self.dwconv)))


class _DualFeatures(nn.Module):
    """What three convolutions see, times a linear map (DFE; section 3.3)."""

    def __init__(self, dim: int):
        super().__init__()
        inner = dim // 5
        self.conv = nn.Sequential(
            nn.Conv2d(dim, inner, 1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(inner, inner, 3, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(inner, dim, 1),
        )
        self.linear = nn.Conv2d(dim, dim, 1)

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.conv(x_BCHW) * self.linear(x_BCHW)
        return features


class _PositionNetwork(nn.Module):
    """A number for each head from a relative position: CrossFormer, Wang et al. 2021, arXiv 2108.00154."""

    def __init__(self, dim: int, num_heads: int):
        super().__init__()
        self.pos_proj = nn.Linear(2, dim)
        self.pos1, self.pos2, self.pos3 = (
            nn.Sequential(LayerNorm(dim), nn.ReLU(), nn.Linear(dim, outputs)) for outputs in (dim, dim, num_heads)
        )

    def forward(self, positions_R2: torch.Tensor) -> torch.Tensor:
        """(R, h)."""
        with without_autocast(positions_R2):
            table_Rh: torch.Tensor = self.pos3(self.pos2(self.pos1(self.pos_proj(positions_R2))))
            return table_Rh


class _Correlation(nn.Module):
    """Correlations of positions for half of the channels and of channels for the other, in windows (section 3.3).

    Keys, which are values too, are cells of positions where a window is larger than the base window: as many as that
    has positions, each a learned weighted sum.
    """

    def __init__(self, dim: int, num_heads: int, window: Pair, base: Pair):
        super().__init__()
        base = min(window[0], base[0]), min(window[1], base[1])
        if window[0] % base[0] or window[1] % base[1]:
            raise ValueError(f"a window of {window[0]} x {window[1]} is no multiple of {base[0]} x {base[1]}")
        self.window, self.base, self.num_heads = window, base, num_heads
        self.cell = window[0] // base[0], window[1] // base[1]
        self.qv = _DualFeatures(dim)
        self.proj = nn.Linear(dim, dim)
        self.spatial_linear = nn.Linear(self.cell[0] * self.cell[1], 1)
        self.pos = _PositionNetwork(dim // 16, num_heads)

    def forward(self, x_BHWC: torch.Tensor) -> torch.Tensor:
        B, H, W, C = x_BHWC.shape
        queries_BCHW, values_BCHW = self.qv(x_BHWC.permute(0, 3, 1, 2)).chunk(2, dim=1)
        plan = window_plan(B, H, W, self.window, (0, 0), x_BHWC.device)
        queries_WNC, values_WNC = (
            split_windows(each.permute(0, 2, 3, 1), plan) for each in (queries_BCHW, values_BCHW)
        )
        by_positions = self._positions(queries_WNC, self._keys(values_BCHW))
        by_channels = values_WNC @ (values_WNC.transpose(1, 2) @ queries_WNC / plan.num_tokens)
        both_WNC = torch.cat([by_positions, by_channels.to(by_positions.dtype)], dim=-1)
        return join_windows(self.proj(both_WNC), plan, (B, H, W, C))

    def _keys(self, values_BCHW: torch.Tensor) -> torch.Tensor:
        """(W, M, C): the cells of each window."""
        weight = self.spatial_linear.weight.view(1, 1, *self.cell)
        flat = values_BCHW.flatten(0, 1)[:, None]
        cells = F.conv2d(flat, weight, self.spatial_linear.bias, stride=self.cell)[:, 0]
        cells_BHWC = cells.unflatten(0, values_BCHW.shape[:2]).permute(0, 2, 3, 1)
        B, H, W, _ = cells_BHWC.shape
        return split_windows(cells_BHWC, window_plan(B, H, W, self.base, (0, 0), cells_BHWC.device))

    def _positions(self, queries_WNC: torch.Tensor, keys_WMC: torch.Tensor) -> torch.Tensor:
        """(W, N, C): keys weighted by their products with the queries, divided by d, plus the bias."""
        queries, keys = (each.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for each in (queries_WNC, keys_WMC))
        keys_Whdd = keys.transpose(-2, -1) @ keys / queries.shape[-1]
        summed_WhNd = queries @ keys_Whdd + self._bias().to(keys.dtype) @ keys
        return summed_WhNd.transpose(1, 2).flatten(2)

    def _bias(self) -> torch.Tensor:
        """(h, N, M)."""
        weight = self.spatial_linear.weight
        table_Rh = self.pos(relative_positions(self.window).to(weight.device, weight.dtype))
        index_NM = relative_position_index(self.window, self.cell).to(weight.device)
        return gather_bias(mean_of_cells(table_Rh, self.window, self.cell), index_NM)
