"""Uformer: a U-shaped network of window-attention blocks whose feed-forward half looks at the neighbours.

Wang, Cun, Bao, Zhou, Liu, Li, "Uformer: A General U-Shaped Transformer for Image Restoration", CVPR 2022,
arXiv 2106.03106; official code: github.com/ZhendongWang6/Uformer (MIT). Argument names, state-dict keys and
outputs agree.

Published sizes, all with `modulator=True`: T `embed_dim=16`; S `embed_dim=32`; B `embed_dim=32` and
`depths=[1, 2, 8, 8, 2, 8, 8, 2, 1]`.

What differs here:
    * any image size, not only squares: both sides are reflected up to a multiple of 128 on their own;
    * whether the bottleneck shifts its windows is `bottleneck_shift`. In the published code it follows from `img_size`,
      for a stage that is one window large never shifts: the same weights give other results for 128 and 256;
    * whether the input is added to the output is `global_residual`, by default the published rule (`dd_in == 3`);
    * `cross_modulator` attends from the normalised map; the published code computes the norm and drops its result
      (`cross_norm=False`). No released weights use it;
    * the mask argument of the published forward, which no published script passes, is left out.

Shapes: B batch, H x W map, C channels of a stage, N tokens of a window, W (in WNC) windows of the batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from restore.layers.arguments import require_positive
from restore.layers.ffn import MLP
from restore.layers.initialisation import initialise_linear
from restore.layers.layer_norm import LayerNorm
from restore.layers.padding import pad_to_multiple
from restore.layers.residual import DropPath
from restore.layers.window import (
    WindowPlan,
    add_window_attention,
    join_windows,
    split_windows,
    window_plan,
)
from restore.networks.base import Network, State
from restore.networks.spec import ImageSpec
from restore.networks.uformer_branches import LocalFeedForward, TableAttention, WindowAttention
from restore.registry import NETWORKS

__all__ = ["Uformer"]

LEVELS = 4
STAGES = [*(f"encoderlayer_{i}" for i in range(LEVELS)), "conv", *(f"decoderlayer_{i}" for i in range(LEVELS))]


@NETWORKS.add()
class Uformer(Network):
    """Restores (B, dd_in, H, W) in [0, 1] to (B, in_chans, H, W).

    Args:
        img_size: training patch side. It decides what the published code derives from it: a stage whose side
            (`img_size` / 2^level) is not larger than the window has no shift, and a window of that side.
        in_chans: channels of the output.
        dd_in: channels of the input, more than `in_chans` for networks that get further maps.
        embed_dim: width of the first stage; it doubles at each of four levels.
        depths: blocks of the four encoder stages, the bottleneck and the four decoder stages.
        num_heads: attention heads of the same nine stages.
        win_size: side of the attention window.
        mlp_ratio: hidden width of the feed-forward network, in channels.
        qkv_bias: whether queries, keys and values have a bias.
        qk_scale: scale of the scores; None for 1 / sqrt(channels of a head).
        drop_rate: dropout of the input, the projections and the feed-forward networks.
        drop_path_rate: stochastic depth, rising linearly over the encoder and falling over the decoder.
        use_checkpoint: recompute blocks in the backward pass, to save memory.
        token_projection: queries, keys and values by "linear" maps or by separable 3x3 "conv"olutions in the window.
        token_mlp: "leff" looks at neighbours; "mlp" (or "ffn") does not; "fastleff" is "leff".
        shift_flag: shift the windows of every other block.
        modulator: add a learned map to every window of the decoder.
        cross_modulator: let the decoder attend to a learned table.
        bottleneck_shift: None for the published dependence on `img_size` (see above).
        global_residual: add the input to the output; None for the published rule, where `dd_in` is 3.
        cross_norm: False for the published oversight (see above).

    Raises:
        ValueError: not nine stages, heads that do not divide the width, or an input that is to be added to an output of
            other channels.
    """

    derived_keys = ("attn_mask",)

    def __init__(
        self,
        img_size: int = 256,
        in_chans: int = 3,
        dd_in: int = 3,
        embed_dim: int = 32,
        depths: Sequence[int] = (2, 2, 2, 2, 2, 2, 2, 2, 2),
        num_heads: Sequence[int] = (1, 2, 4, 8, 16, 16, 8, 4, 2),
        win_size: int = 8,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        qk_scale: float | None = None,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.1,
        use_checkpoint: bool = False,
        token_projection: Literal["linear", "conv"] = "linear",
        token_mlp: Literal["leff", "mlp", "ffn", "fastleff"] = "leff",
        shift_flag: bool = True,
        modulator: bool = False,
        cross_modulator: bool = False,
        bottleneck_shift: bool | None = None,
        global_residual: bool | None = None,
        cross_norm: bool = True,
    ):
        super().__init__()
        if len(depths) != 2 * LEVELS + 1 or len(num_heads) != len(depths):
            raise ValueError(f"depths and num_heads have nine entries each: {len(depths)} and {len(num_heads)} given")
        require_positive(in_chans=in_chans, dd_in=dd_in, embed_dim=embed_dim, depths=depths, num_heads=num_heads)
        require_positive(win_size=win_size, mlp_ratio=mlp_ratio)
        if img_size < 1 << LEVELS:
            raise ValueError(f"img_size {img_size} is less than {1 << LEVELS}: nothing is left of it at the bottleneck")
        self.in_chans, self.dd_in = in_chans, dd_in
        self.global_residual = dd_in == 3 if global_residual is None else global_residual
        if self.global_residual and in_chans != dd_in:
            raise ValueError(
                f"the input of dd_in {dd_in} channels is added to the output of in_chans {in_chans}: give both the "
                "same number, or global_residual: false"
            )
        rates = _drop_path_rates(drop_path_rate, depths)
        sides = [img_size >> level for level in (0, 1, 2, 3, 4, 3, 2, 1, 0)]
        widths = [embed_dim << level for level in (0, 1, 2, 3, 4, 4, 3, 2, 1)]

        def stage(index: int) -> Stage:
            shift = shift_flag and sides[index] > win_size
            if index == LEVELS and bottleneck_shift is not None:
                shift = shift_flag and bottleneck_shift
            options = {
                "dim": widths[index],
                "num_heads": num_heads[index],
                "window_size": min(win_size, sides[index]),
                "mlp_ratio": mlp_ratio,
                "qkv_bias": qkv_bias,
                "qk_scale": qk_scale,
                "drop": drop_rate,
                "token_projection": token_projection,
                "token_mlp": token_mlp,
                "modulator": modulator and index > LEVELS,
                "cross_modulator": cross_modulator and index > LEVELS,
                "cross_norm": cross_norm,
            }
            return Stage(rates[index], shift, use_checkpoint, options)

        self.pos_drop = nn.Dropout(drop_rate)
        self.input_proj = nn.ModuleDict(
            {"proj": nn.Sequential(nn.Conv2d(dd_in, embed_dim, 3, padding=1), nn.LeakyReLU())}
        )
        for level in range(LEVELS):
            self.add_module(f"encoderlayer_{level}", stage(level))
            down = nn.Conv2d(widths[level], widths[level + 1], 4, stride=2, padding=1)
            self.add_module(f"dowsample_{level}", nn.ModuleDict({"conv": nn.Sequential(down)}))
        self.conv = stage(LEVELS)
        for level in range(LEVELS):
            up = nn.ConvTranspose2d(widths[LEVELS + level], widths[LEVELS - 1 - level], 2, stride=2)
            self.add_module(f"upsample_{level}", nn.ModuleDict({"deconv": nn.Sequential(up)}))
            self.add_module(f"decoderlayer_{level}", stage(LEVELS + 1 + level))
        self.output_proj = nn.ModuleDict({"proj": nn.Sequential(nn.Conv2d(2 * embed_dim, in_chans, 3, padding=1))})
        self.size_multiple = math.lcm(*(min(win_size, img_size >> level) << level for level in range(LEVELS + 1)))
        self.apply(initialise_linear)

    @property
    def spec(self) -> ImageSpec:
        """What the network wants of its images."""
        return ImageSpec(
            in_channels=self.dd_in,
            out_channels=self.in_chans,
            size_multiple=self.size_multiple,
        )

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """(B, dd_in, H, W) in [0, 1] to (B, in_chans, H, W)."""
        height, width = x_BCHW.shape[2:]
        padded = pad_to_multiple(x_BCHW, self.size_multiple).contiguous(memory_format=torch.channels_last)
        y = self.pos_drop(self.input_proj["proj"](padded))
        skips = []
        for level in range(LEVELS):
            skips.append(self.get_submodule(f"encoderlayer_{level}")(y))
            y = self.get_submodule(f"dowsample_{level}.conv")(skips[-1])
        y = self.conv(y)
        for level in range(LEVELS):
            y = self.get_submodule(f"upsample_{level}.deconv")(y)
            y = self.get_submodule(f"decoderlayer_{level}")(torch.cat([y, skips.pop()], dim=1))
        y = self.output_proj["proj"](y)[:, :, :height, :width]
        return x_BCHW + y if self.global_residual else y

    @classmethod
    def recognise(cls, state: State) -> dict[str, Any] | None:
        """The constructor's arguments.

        `img_size` is not in the weights: 128 is taken, with which all published tests build the network, also for the
        deblurring weights that were trained at 256. A bottleneck with a small window tells that it was less.
        """
        tables = [state.get(f"{stage}.blocks.0.attn.relative_position_bias_table") for stage in STAGES]
        found = [table for table in tables if table is not None]
        if "input_proj.proj.0.weight" not in state or len(found) < len(tables):
            return None
        windows = [(math.isqrt(len(table)) + 1) // 2 for table in found]
        width, dd_in = state["input_proj.proj.0.weight"].shape[:2]
        block = "decoderlayer_0.blocks.0"
        hidden = state.get(f"{block}.mlp.linear1.0.weight", state.get(f"{block}.mlp.fc1.weight"))
        if hidden is None:
            return None
        return {
            "img_size": 16 * min(windows[LEVELS], windows[0]),
            "in_chans": state["output_proj.proj.0.weight"].shape[0],
            "dd_in": dd_in,
            "embed_dim": width,
            "depths": [
                len({key.split(".")[2] for key in state if key.startswith(f"{stage}.blocks.")}) for stage in STAGES
            ],
            "num_heads": [table.shape[1] for table in found],
            "win_size": windows[0],
            "mlp_ratio": hidden.shape[0] / hidden.shape[1],
            "qkv_bias": f"{block}.attn.qkv.to_kv.weight" not in state or f"{block}.attn.qkv.to_kv.bias" in state,
            "token_projection": "linear" if f"{block}.attn.qkv.to_kv.weight" in state else "conv",
            "token_mlp": "leff" if f"{block}.mlp.linear1.0.weight" in state else "mlp",
            "modulator": f"{block}.modulator.weight" in state,
            "cross_modulator": f"{block}.cross_modulator.weight" in state,
        }


class Stage(nn.Module):
    """Blocks of one width; every other one shifts its windows."""

    def __init__(self, drop_path_rates: Sequence[float], shift: bool, use_checkpoint: bool, options: dict[str, Any]):
        super().__init__()
        self.use_checkpoint = use_checkpoint
        self.blocks = nn.ModuleList(
            Block(shifted=shift and index % 2 == 1, drop_path=rate, **options)
            for index, rate in enumerate(drop_path_rates)
        )

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        x_BHWC = x_BCHW.permute(0, 2, 3, 1)
        for block in self.blocks:
            if self.use_checkpoint and self.training:
                x_BHWC = checkpoint(block, x_BHWC, use_reentrant=False)
            else:
                x_BHWC = block(x_BHWC)
        return x_BHWC.permute(0, 3, 1, 2)


class Block(nn.Module):
    """The LeWin block: pre-norm window attention and feed-forward network, modulated in the decoder."""

    whole_branches = True

    def __init__(
        self,
        dim: int,
        num_heads: int,
        window_size: int,
        shifted: bool,
        mlp_ratio: float,
        qkv_bias: bool,
        qk_scale: float | None,
        drop: float,
        drop_path: float,
        token_projection: str,
        token_mlp: str,
        modulator: bool,
        cross_modulator: bool,
        cross_norm: bool,
    ):
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"a stage is {dim} wide, which is not a multiple of its num_heads, {num_heads}")
        self.window, self.shift = (window_size, window_size), (window_size // 2 * shifted,) * 2
        self.modulator = nn.Embedding(window_size**2, dim) if modulator else None
        self.cross_modulator = nn.Embedding(window_size**2, dim) if cross_modulator else None
        if cross_modulator:
            self.cross_attn = TableAttention(dim, num_heads, qkv_bias, qk_scale, drop)
            self.norm_cross = LayerNorm(dim)
            self.cross_norm = cross_norm
        self.norm1 = LayerNorm(dim)
        self.attn = WindowAttention(dim, num_heads, self.window, qkv_bias, qk_scale, drop, token_projection)
        self.drop_path = DropPath(drop_path)
        self.norm2 = LayerNorm(dim)
        self.mlp = LocalFeedForward(dim, mlp_ratio) if token_mlp in ("leff", "fastleff") else MLP(dim, mlp_ratio, drop)

    def forward(self, x_BHWC: torch.Tensor) -> torch.Tensor:
        if self.cross_modulator is not None:
            tokens_BHWC = self.norm_cross(x_BHWC) if self.cross_norm else x_BHWC
            x_BHWC = x_BHWC + self.cross_attn(tokens_BHWC, self.cross_modulator.weight)
        x_BHWC = self._attended(x_BHWC)
        return x_BHWC + self.drop_path(self.mlp(self.norm2(x_BHWC)))

    def _attended(self, x_BHWC: torch.Tensor) -> torch.Tensor:
        B, H, W, _ = x_BHWC.shape
        plan = window_plan(B, H, W, self.window, self.shift, x_BHWC.device)
        attn, table_NC = self.attn, None if self.modulator is None else self.modulator.weight
        heads, bias_hNN = attn.num_heads, attn.position_bias()
        whole = add_window_attention(
            self, x_BHWC, self.norm1, attn.qkv, attn.proj, heads, bias_hNN, plan, attn.scale, table_NC
        )
        return x_BHWC + self.drop_path(self._attend(self.norm1(x_BHWC), plan)) if whole is None else whole

    def _attend(self, x_BHWC: torch.Tensor, plan: WindowPlan) -> torch.Tensor:
        windows_WNC = split_windows(x_BHWC, plan)
        if self.modulator is not None:
            windows_WNC = windows_WNC + self.modulator.weight
        return join_windows(self.attn(windows_WNC, plan), plan, x_BHWC.shape)


def _drop_path_rates(rate: float, depths: Sequence[int]) -> list[list[float]]:
    """The stochastic depth of each block of each stage."""
    encoder, decoder = sum(depths[:LEVELS]), sum(depths[LEVELS + 1 :])
    rates = [rate * index / max(encoder - 1, 1) for index in range(encoder)]
    rates += [rate] * depths[LEVELS]
    rates += [rate * index / max(decoder - 1, 1) for index in reversed(range(decoder))]
    ends = [sum(depths[: index + 1]) for index in range(len(depths))]
    return [rates[end - depth : end] for end, depth in zip(ends, depths, strict=True)]
