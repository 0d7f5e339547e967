"""MAN: super-resolution by convolutions with large kernels, of three sizes, that gate each other.

Wang, Li, Wang, Guo, Wang, Huang, Zhou 2022, arXiv 2209.14145; official code: github.com/icandle/MAN (Apache-2.0), whose
argument names, keys and outputs these are.

What differs from the official code, none of it in the output: the mean of the colours, which no training changes, is a
buffer.

Shape legend: B batch, H x W map, C features, s scale.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import nn

from restore.layers.arguments import require_positive
from restore.networks.base import Network, State
from restore.networks.residual import RGB_MEAN, conv3x3
from restore.networks.spec import ImageSpec
from restore.registry import NETWORKS

__all__ = ["MAN"]

_KERNELS = {3: (5, 2), 5: (7, 3), 7: (9, 4)}
"""The sides of the second kernel and its dilation, by that of the first."""


@NETWORKS.add()
class MAN(Network):
    """Restores (B, 3, H, W) in [0, 1] to (B, 3, H*scale, W*scale), not clamped.

    The published networks have 8.7 million parameters at x4, MAN-light (24 blocks of 60 features) 0.84 and MAN-tiny (5
    blocks of 48) 0.15 million.

    Args:
        n_resblocks: blocks of each group.
        n_resgroups: groups; with more than one, a convolution and a residual go around them.
        n_colors: 3, because the mean of the colours is known for RGB.
        n_feats: C, a multiple of 3.
        scale: s.
        res_scale: 1, the only published value.

    Raises:
        ValueError: features that are no multiple of 3.
    """

    def __init__(
        self,
        n_resblocks: int = 36,
        n_resgroups: int = 1,
        n_colors: Literal[3] = 3,
        n_feats: int = 180,
        scale: int = 2,
        res_scale: Literal[1] | Literal[1.0] = 1,  # type: ignore[valid-type]  # pydantic takes it
    ):
        super().__init__()
        require_positive(n_resblocks=n_resblocks, n_resgroups=n_resgroups, n_feats=n_feats, scale=scale)
        if n_feats % 3:
            raise ValueError(f"n_feats is {n_feats}: must be a multiple of 3, for three sizes of kernels")
        self.scale = scale
        self.sub_mean, self.add_mean = _Shift(-1), _Shift(1)
        self.head = conv3x3(n_colors, n_feats)
        self.body = nn.ModuleList(_Group(n_feats, n_resblocks) for _ in range(n_resgroups))
        self.body_t = conv3x3(n_feats, n_feats) if n_resgroups > 1 else None
        self.tail = nn.Sequential(conv3x3(n_feats, n_colors * scale**2), nn.PixelShuffle(scale))

    @property
    def spec(self) -> ImageSpec:
        """What the network wants of its images."""
        return ImageSpec(self.scale, 3, 3)

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """As the class says."""
        first = deep = self.head(self.sub_mean(x_BCHW))
        for group in self.body:
            deep = group(deep)
        if self.body_t is not None:
            deep = self.body_t(deep) + first
        restored: torch.Tensor = self.add_mean(self.tail(deep))
        return restored

    @classmethod
    def recognise(cls, state: State) -> dict[str, Any] | None:
        """The constructor's arguments."""
        if not {"head.weight", "tail.0.weight", "body.0.body.0.LKA.LKA7.0.weight"} <= state.keys():
            return None
        n_feats, n_colors = state["head.weight"].shape[:2]
        numbers = [key.split(".") for key in state if key.endswith("LKA.scale")]
        return {
            "n_resblocks": 1 + max(int(parts[3]) for parts in numbers),
            "n_resgroups": 1 + max(int(parts[1]) for parts in numbers),
            "n_colors": n_colors,
            "n_feats": n_feats,
            "scale": round((len(state["tail.0.weight"]) / n_colors) ** 0.5),
        }


class _Shift(nn.Module):
    """Adds the mean colour of DIV2K, times `sign`, under the keys of the convolution that it was."""

    weight: torch.Tensor
    bias: torch.Tensor

    def __init__(self, sign: int):
        super().__init__()
        self.register_buffer("weight", torch.eye(3)[:, :, None, None].clone())
        self.register_buffer("bias", sign * torch.tensor(RGB_MEAN))

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        return F.conv2d(x_BCHW, self.weight.to(x_BCHW.dtype), self.bias.to(x_BCHW.dtype))


class _ChannelNorm(nn.LayerNorm):
    """A layer norm over the channels of (B, C, H, W)."""

    def __init__(self, channels: int):
        super().__init__(channels, eps=1e-6)

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        return super().forward(x_BCHW.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def _depthwise(channels: int, side: int, dilation: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, side, padding=side // 2 * dilation, dilation=dilation, groups=channels)


def _large(channels: int, first: int, second: int, dilation: int) -> nn.Sequential:
    """A large kernel in three parts: VAN, Guo et al. 2022, arXiv 2202.09741."""
    return nn.Sequential(
        _depthwise(channels, first), _depthwise(channels, second, dilation), nn.Conv2d(channels, channels, 1)
    )


class _Attention(nn.Module):
    """A third of the channels for each size of kernel, gated by a smaller one (MLKA; section 3.2)."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm = _ChannelNorm(channels)
        self.scale = nn.Parameter(torch.zeros(1, channels, 1, 1))
        for first, (second, dilation) in _KERNELS.items():
            self.add_module(f"LKA{first}", _large(channels // 3, first, second, dilation))
            self.add_module(f"X{first}", _depthwise(channels // 3, first))
        self.proj_first = nn.Sequential(nn.Conv2d(channels, 2 * channels, 1))
        self.proj_last = nn.Sequential(nn.Conv2d(channels, channels, 1))

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        gates, values = self.proj_first(self.norm(x_BCHW)).chunk(2, dim=1)
        gated = [
            self.get_submodule(f"LKA{first}")(part) * self.get_submodule(f"X{first}")(part)
            for first, part in zip(_KERNELS, gates.chunk(3, dim=1), strict=True)
        ]
        return x_BCHW + self.proj_last(values * torch.cat(gated, dim=1)) * self.scale


class _GatedUnit(nn.Module):
    """Half of the channels, seen through a kernel of 7 px, times the other half (GSAU; section 3.3)."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm = _ChannelNorm(channels)
        self.scale = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.Conv1 = nn.Conv2d(channels, 2 * channels, 1)
        self.DWConv1 = _depthwise(channels, 7)
        self.Conv2 = nn.Conv2d(channels, channels, 1)

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        gates, values = self.Conv1(self.norm(x_BCHW)).chunk(2, dim=1)
        return x_BCHW + self.Conv2(values * self.DWConv1(gates)) * self.scale


class _Block(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.LKA, self.LFE = _Attention(channels), _GatedUnit(channels)

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        y_BCHW: torch.Tensor = self.LFE(self.LKA(x_BCHW))
        return y_BCHW


class _Tail(nn.Module):
    """A large kernel as a gate at the end of a group (LKAT; section 3.4)."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv0 = nn.Sequential(nn.Conv2d(channels, channels, 1), nn.GELU())
        self.att = _large(channels, 7, 9, 3)
        self.conv1 = nn.Conv2d(channels, channels, 1)

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        x_BCHW = self.conv0(x_BCHW)
        y_BCHW: torch.Tensor = self.conv1(x_BCHW * self.att(x_BCHW))
        return y_BCHW


class _Group(nn.Module):
    def __init__(self, channels: int, num_blocks: int):
        super().__init__()
        self.body = nn.ModuleList(_Block(channels) for _ in range(num_blocks))
        self.body_t = _Tail(channels)

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        deep = x_BCHW
        for block in self.body:
            deep = block(deep)
        restored: torch.Tensor = self.body_t(deep) + x_BCHW
        return restored
