"""What SwinIR shares with the networks that were made of it: everything around the blocks.

A convolution, groups of blocks that each end in a convolution and a residual, and one of four reconstructions: Liang et
al. 2021, arXiv 2108.10257; official code: github.com/JingyunLiang/SwinIR (Apache-2.0). Names of modules are the
published ones. Any H x W of at least 1 px is accepted.

Shape legend: B batch, H x W map, C channels (embed_dim), s scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from restore.layers.convolution import PixelShuffleUpsampler, residual_conv
from restore.layers.initialisation import initialise_linear
from restore.layers.layer_norm import LayerNorm
from restore.layers.padding import crop, pad_to_multiple
from restore.layers.precision import float32_when_half
from restore.networks.base import Network, State

__all__ = ["ResidualGroup", "ResidualGroups", "Upsampler", "recognise_groups", "stochastic_depth"]

RGB_MEAN = (0.4488, 0.4371, 0.4040)
NUM_FEAT = 64

Upsampler = Literal["", "pixelshuffle", "pixelshuffledirect", "nearest+conv"]


class ResidualGroups(Network):
    """Base of networks that restore (B, in_chans, H, W) in [0, 1] to (B, in_chans, H*upscale, W*upscale) by groups.

    A subclass calls `begin`, fills `layers` with instances of `ResidualGroup`, and calls `finish`.

    Attributes:
        size_multiple: what the sides of the image are padded to multiples of.
        img_range: the network works on values in [0, img_range].
        use_checkpoint: recompute blocks in the backward pass, to save memory.
    """

    mean: torch.Tensor
    upsample: nn.Module
    size_multiple: int = 1
    use_checkpoint: bool = False

    def begin(
        self, in_chans: int, embed_dim: int, img_size: int, *, patch_norm: bool, ape: bool, drop_rate: float = 0.0
    ) -> None:
        """Make what stands before the groups."""
        self.in_chans = in_chans
        self.conv_first = nn.Conv2d(in_chans, embed_dim, 3, 1, 1)
        self.patch_embed: Any = nn.Module()
        self.patch_embed.add_module("norm", LayerNorm(embed_dim) if patch_norm else None)
        self.absolute_pos_embed = nn.Parameter(torch.zeros(1, img_size**2, embed_dim)) if ape else None
        self.pos_drop = nn.Dropout(drop_rate)
        self.layers = nn.ModuleList()

    def finish(
        self, embed_dim: int, resi_connection: str, upscale: int, upsampler: Upsampler | None, img_range: float
    ) -> None:
        """Make what stands after the groups, and draw all weights."""
        self.upscale, self.img_range, self.upsampler = upscale, img_range, upsampler or ""
        self.norm = LayerNorm(embed_dim)
        self.conv_after_body = residual_conv(embed_dim, resi_connection)
        self._add_reconstruction(embed_dim, self.in_chans)
        mean = RGB_MEAN if self.in_chans == 3 else (0.0,)
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.apply(initialise_linear)
        if self.absolute_pos_embed is not None:
            nn.init.trunc_normal_(self.absolute_pos_embed, std=0.02)

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """(B, in_chans, H, W) in [0, 1] to (B, in_chans, H*s, W*s)."""
        height, width = x_BCHW.shape[2:]
        x = pad_to_multiple(x_BCHW, self.size_multiple)
        mean = self.mean.to(x.dtype)
        x = (x - mean) * self.img_range
        shallow = self.conv_first(x)
        deep = float32_when_half(self.conv_after_body, self._body(shallow)) + shallow
        if self.upsampler == "pixelshuffle":
            x = self.conv_last(self.upsample(self.conv_before_upsample(deep)))
        elif self.upsampler == "pixelshuffledirect":
            x = self.upsample(deep)
        elif self.upsampler == "nearest+conv":
            x = self._nearest_conv(self.conv_before_upsample(deep))
        else:
            x = x + self.conv_last(deep)
        return crop(x / self.img_range + mean, height * self.upscale, width * self.upscale)

    def _body(self, shallow_BCHW: torch.Tensor) -> torch.Tensor:
        x_BHWC = shallow_BCHW.permute(0, 2, 3, 1)
        if self.patch_embed.norm is not None:
            x_BHWC = self.patch_embed.norm(x_BHWC)
        if self.absolute_pos_embed is not None:
            x_BHWC = x_BHWC + self._positions(self.absolute_pos_embed, *x_BHWC.shape[1:3])
        x_BHWC = self.pos_drop(x_BHWC)
        for stage in self.layers:
            x_BHWC = stage(x_BHWC, self.use_checkpoint and self.training)
        return self.norm(x_BHWC).permute(0, 3, 1, 2)

    @staticmethod
    def _positions(table_1NC: torch.Tensor, height: int, width: int) -> torch.Tensor:
        side = round(table_1NC.shape[1] ** 0.5)
        grid = table_1NC.view(1, side, side, -1).permute(0, 3, 1, 2)
        if (height, width) != (side, side):
            grid = F.interpolate(grid, (height, width), mode="bicubic", align_corners=False)
        return grid.permute(0, 2, 3, 1)

    def _add_reconstruction(self, embed_dim: int, channels: int) -> None:
        s = self.upscale
        if self.upsampler == "pixelshuffle":
            self.conv_before_upsample = _conv_act(embed_dim, NUM_FEAT)
            self.upsample = PixelShuffleUpsampler(s, NUM_FEAT)
            self.conv_last = nn.Conv2d(NUM_FEAT, channels, 3, 1, 1)
        elif self.upsampler == "pixelshuffledirect":
            self.upsample = nn.Sequential(nn.Conv2d(embed_dim, s**2 * channels, 3, 1, 1), nn.PixelShuffle(s))
        elif self.upsampler == "nearest+conv":
            if s not in (2, 4):
                raise ValueError(f"upscale must be 2 or 4 with upsampler 'nearest+conv', got {s}")
            self.conv_before_upsample = _conv_act(embed_dim, NUM_FEAT)
            self.conv_up1 = nn.Conv2d(NUM_FEAT, NUM_FEAT, 3, 1, 1)
            if s == 4:
                self.conv_up2 = nn.Conv2d(NUM_FEAT, NUM_FEAT, 3, 1, 1)
            self.conv_hr = nn.Conv2d(NUM_FEAT, NUM_FEAT, 3, 1, 1)
            self.conv_last = nn.Conv2d(NUM_FEAT, channels, 3, 1, 1)
        else:
            if s != 1:
                raise ValueError(f"upscale {s} needs an upsampler: pixelshuffle, pixelshuffledirect or nearest+conv")
            self.conv_last = nn.Conv2d(embed_dim, channels, 3, 1, 1)

    def _nearest_conv(self, x: torch.Tensor) -> torch.Tensor:
        for conv in (self.conv_up1, self.conv_up2) if self.upscale == 4 else (self.conv_up1,):
            x = F.leaky_relu(conv(F.interpolate(x, scale_factor=2, mode="nearest")), 0.2)
        return self.conv_last(F.leaky_relu(self.conv_hr(x), 0.2))


class ResidualGroup(nn.Module):
    """A residual group of blocks, then a convolution: the published RSTB."""

    def __init__(self, blocks: Sequence[nn.Module], dim: int, resi_connection: str):
        super().__init__()
        self.residual_group: Any = nn.Module()
        self.residual_group.blocks = nn.ModuleList(blocks)
        self.conv = residual_conv(dim, resi_connection)

    def forward(self, x_BHWC: torch.Tensor, recompute: bool) -> torch.Tensor:
        """(B, H, W, C) to the same shape; `recompute` says whether blocks are computed again in the backward pass."""
        y = x_BHWC
        for block in self.residual_group.blocks:
            y = checkpoint(block, y, use_reentrant=False) if recompute else block(y)
        y = float32_when_half(self.conv, y.permute(0, 3, 1, 2))
        return x_BHWC + y.permute(0, 2, 3, 1)


def _conv_act(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, 1, 1), nn.LeakyReLU(0.01))


def _recognise_upsampler(state: State) -> tuple[str, int]:
    if "conv_up1.weight" in state:
        return "nearest+conv", 4 if "conv_up2.weight" in state else 2
    if "conv_before_upsample.0.weight" in state:
        if state["upsample.0.weight"].shape[0] == 9 * NUM_FEAT:
            return "pixelshuffle", 3
        return "pixelshuffle", 2 ** sum(key.startswith("upsample.") and key.endswith("weight") for key in state)
    if "upsample.0.weight" in state:
        return "pixelshuffledirect", round(
            (state["upsample.0.weight"].shape[0] / state["conv_first.weight"].shape[1]) ** 0.5
        )
    return "", 1


def stochastic_depth(rate: float, depths: Sequence[int]) -> list[list[float]]:
    """For each group the rates of its blocks: from 0 for the first of all, linearly to `rate` for the last."""
    last = max(1, sum(depths) - 1)
    rates = [rate * block / last for block in range(sum(depths))]
    return [rates[sum(depths[:group]) : sum(depths[: group + 1])] for group in range(len(depths))]


def recognise_groups(state: State) -> dict[str, Any]:
    """Those arguments of the constructor that have nothing to do with the blocks."""
    dim, channels = state["conv_first.weight"].shape[:2]
    groups = 1 + max(int(key.split(".")[1]) for key in state if key.startswith("layers."))
    blocks = [{int(key.split(".")[4]) for key in state if key.startswith(f"layers.{i}.resid")} for i in range(groups)]
    upsampler, upscale = _recognise_upsampler(state)
    return {
        "in_chans": channels,
        "embed_dim": dim,
        "depths": [len(indices) for indices in blocks],
        "mlp_ratio": state["layers.0.residual_group.blocks.0.mlp.fc1.weight"].shape[0] / dim,
        "patch_norm": "patch_embed.norm.weight" in state,
        "ape": "absolute_pos_embed" in state,
        "upscale": upscale,
        "upsampler": upsampler,
        "resi_connection": "3conv" if "conv_after_body.0.weight" in state else "1conv",
    }
