"""The baselines of efficient super-resolution: IMDN, RFDN, RLFN and EFDN.

- IMDN: Hui et al. 2019, arXiv 1909.11856 (Zheng222/IMDN, no licence: only facts). Images in [0, 1].
- RFDN: Liu et al. 2020, arXiv 2009.11551 (njulj/RFDN, MIT). The published weights work on 0..255.
- RLFN: Kong et al. 2022, arXiv 2205.07514 (bytedance/RLFN, MIT). The published weights work on 0..255.
- EFDN: Wang 2022, arXiv 2204.08759 (icandle/EFDN, MIT), as the challenges' baseline has it: every edge-enhanced branch
  folded into one 3x3 convolution.

Argument names, defaults, keys and outputs are the published ones. What differs: images smaller than the 15 px that the
attention of RFDN, RLFN and EFDN needs are padded, and EFDN does not clamp what it gives.

Shapes: B batch, C features, H x W image, s upscale.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from restore.layers.padding import pad_to_multiple
from restore.networks.base import Network, State
from restore.networks.residual import conv3x3
from restore.networks.spec import ImageSpec
from restore.registry import NETWORKS

__all__ = ["EFDN", "IMDN", "RFDN", "RLFN"]

SLOPE = 0.05  # of the leaky ReLU below zero
LEAST_PX = 15
"""Smallest side whose half, without a border, still holds a window of 7 px."""


def _conv1x1(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 1)


def _active(x_BCHW: torch.Tensor) -> torch.Tensor:
    return F.leaky_relu(x_BCHW, SLOPE)


class ContrastAttention(nn.Module):
    """Weighs channels by their mean plus their standard deviation over the image (IMDN, section 3.3)."""

    def __init__(self, channels: int, reduction: int = 16):
        super().__init__()
        inner = channels // reduction
        self.conv_du = nn.Sequential(_conv1x1(channels, inner), nn.ReLU(), _conv1x1(inner, channels), nn.Sigmoid())

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        spread, mean = torch.std_mean(x_BCHW.float(), dim=(2, 3), correction=0, keepdim=True)
        weights: torch.Tensor = self.conv_du((spread + mean).to(x_BCHW.dtype))
        return x_BCHW * weights


class SpatialAttention(nn.Module):
    """Weighs positions by what a much smaller map says of their surroundings: ESA, Liu et al. 2020, arXiv 2009.11551.

    Args:
        channels: of the map.
        inner: channels of the small map.
        is_light: without two of the convolutions, as RLFN has it.
    """

    def __init__(self, channels: int, inner: int, *, is_light: bool = False):
        super().__init__()
        self.is_light = is_light
        self.conv1, self.conv_f = _conv1x1(channels, inner), _conv1x1(inner, inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride=2)
        self.conv3 = conv3x3(inner, inner)
        if not is_light:
            self.conv_max, self.conv3_ = conv3x3(inner, inner), conv3x3(inner, inner)
        self.conv4 = _conv1x1(inner, channels)

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        reduced = self.conv1(x_BCHW)
        small = F.max_pool2d(self.conv2(reduced), 7, 3)
        if self.is_light:
            small = self.conv3(small)
        else:
            small = self.conv3_(F.relu(self.conv3(F.relu(self.conv_max(small)))))
        enlarged = F.interpolate(small, x_BCHW.shape[2:], mode="bilinear", align_corners=False)
        return x_BCHW * torch.sigmoid(self.conv4(enlarged + self.conv_f(reduced)))


class _Distilling(nn.Module):
    """IMDN's block: each convolution keeps a quarter of its channels for the end and passes the others on."""

    def __init__(self, channels: int):
        super().__init__()
        self.kept = channels // 4
        passed = channels - self.kept
        self.c1, self.c2, self.c3 = conv3x3(channels, channels), conv3x3(passed, channels), conv3x3(passed, channels)
        self.c4 = conv3x3(passed, self.kept)
        self.c5 = _conv1x1(4 * self.kept, channels)
        self.cca = ContrastAttention(4 * self.kept)

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        kept, passed = [], x_BCHW
        for conv in (self.c1, self.c2, self.c3):
            y_BCHW = _active(conv(passed))
            kept.append(y_BCHW[:, : self.kept])
            passed = y_BCHW[:, self.kept :]
        kept.append(self.c4(passed))
        return x_BCHW + self.c5(self.cca(torch.cat(kept, dim=1)))


class _ResidualDistilling(nn.Module):
    """RFDN's block: what is kept comes from 1x1 convolutions, and each 3x3 convolution has a residual."""

    def __init__(self, channels: int):
        super().__init__()
        kept = channels // 2
        self.c1_d, self.c2_d, self.c3_d = (_conv1x1(channels, kept) for _ in range(3))
        self.c1_r, self.c2_r, self.c3_r = (conv3x3(channels, channels) for _ in range(3))
        self.c4 = conv3x3(channels, kept)
        self.c5 = _conv1x1(4 * kept, channels)
        self.esa = SpatialAttention(channels, channels // 4)

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        kept = []
        for keep, refine in ((self.c1_d, self.c1_r), (self.c2_d, self.c2_r), (self.c3_d, self.c3_r)):
            kept.append(_active(keep(x_BCHW)))
            x_BCHW = _active(refine(x_BCHW) + x_BCHW)
        kept.append(_active(self.c4(x_BCHW)))
        attended: torch.Tensor = self.esa(self.c5(torch.cat(kept, dim=1)))
        return attended


class _ResidualLocal(nn.Module):
    """RLFN's block: three convolutions, a residual, and attention."""

    def __init__(self, channels: int, inner: int):
        super().__init__()
        self.c1_r, self.c2_r = conv3x3(channels, inner), conv3x3(inner, inner)
        self.c3_r = conv3x3(inner, channels)
        self.c5 = _conv1x1(channels, channels)
        self.esa = SpatialAttention(channels, 16, is_light=True)

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        y_BCHW = x_BCHW
        for conv in (self.c1_r, self.c2_r, self.c3_r):
            y_BCHW = _active(conv(y_BCHW))
        attended: torch.Tensor = self.esa(self.c5(y_BCHW + x_BCHW))
        return attended


class _Efficient(Network):
    """What these networks share: a first convolution, a body at the input's size, and a pixel shuffle at the end."""

    scale: int
    channels: tuple[int, int]
    value_range: float = 1.0
    least_px = LEAST_PX

    @property
    def spec(self) -> ImageSpec:
        """What the network wants of its images."""
        return ImageSpec(self.scale, *self.channels, value_range=self.value_range, min_size=self.least_px)

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) in the network's range to (B, C, H*s, W*s)."""
        height, width = x_BCHW.shape[2:]
        if min(height, width) < self.least_px:
            x_BCHW = pad_to_multiple(x_BCHW, self.least_px)
        y_BCHW = F.pixel_shuffle(self._features(x_BCHW), self.scale)
        return y_BCHW[:, :, : height * self.scale, : width * self.scale]

    @abstractmethod
    def _features(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """(B, out * s^2, H, W): the pixels of the result before they are shuffled."""


class _Gathering(_Efficient):
    """IMDN and RFDN: the outputs of all blocks are put together."""

    def __init__(self, in_nc: int, nf: int, num_modules: int, out_nc: int, upscale: int, prefix: str, block: Any):
        super().__init__()
        self.scale, self.channels = upscale, (in_nc, out_nc)
        self.fea_conv = conv3x3(in_nc, nf)
        self._names = [f"{prefix}{number}" for number in range(1, num_modules + 1)]
        for name in self._names:
            self.add_module(name, block(nf))
        self.c = nn.Sequential(_conv1x1(nf * num_modules, nf), nn.LeakyReLU(SLOPE))
        self.LR_conv = conv3x3(nf, nf)
        self.upsampler = nn.Sequential(conv3x3(nf, out_nc * upscale**2))

    def _features(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        first = x_BCHW = self.fea_conv(x_BCHW)
        outputs = []
        for name in self._names:
            x_BCHW = getattr(self, name)(x_BCHW)
            outputs.append(x_BCHW)
        features: torch.Tensor = self.upsampler(self.LR_conv(self.c(torch.cat(outputs, dim=1))) + first)
        return features


def _gathering(state: State, prefix: str, telltale: str) -> dict[str, Any] | None:
    if not {"fea_conv.weight", "LR_conv.weight", f"{prefix}1.{telltale}"} <= set(state):
        return None
    nf, in_nc = state["fea_conv.weight"].shape[:2]
    upscale = round((len(state["upsampler.0.weight"]) / in_nc) ** 0.5)
    modules = state["c.0.weight"].shape[1] // nf
    return {"in_nc": in_nc, "out_nc": in_nc, "nf": nf, "num_modules": modules, "upscale": upscale}


@NETWORKS.add()
class IMDN(_Gathering):
    """Information multi-distillation: 715,176 parameters at x4.

    Args:
        in_nc: channels of the input.
        nf: C, at least 64.
        num_modules: blocks.
        out_nc: channels of the output.
        upscale: s.
    """

    least_px = 1

    def __init__(self, in_nc: int = 3, nf: int = 64, num_modules: int = 6, out_nc: int = 3, upscale: int = 4):
        if nf < 16 or nf % 4:
            raise ValueError(f"nf is {nf}; must be a multiple of 4 of at least 16")
        super().__init__(in_nc, nf, num_modules, out_nc, upscale, "IMDB", _Distilling)

    @classmethod
    def recognise(cls, state: State) -> dict[str, Any] | None:
        """The constructor's arguments."""
        return _gathering(state, "IMDB", "cca.conv_du.0.weight")


@NETWORKS.add()
class RFDN(_Gathering):
    """Residual feature distillation: 433,448 parameters at x4 and width 50.

    Args:
        in_nc: channels of the input.
        nf: C.
        num_modules: blocks.
        out_nc: channels of the output.
        upscale: s.
        value_range: white, for what the network takes and gives.
    """

    def __init__(
        self,
        in_nc: int = 3,
        nf: int = 50,
        num_modules: int = 4,
        out_nc: int = 3,
        upscale: int = 4,
        value_range: float = 255.0,
    ):
        super().__init__(in_nc, nf, num_modules, out_nc, upscale, "B", _ResidualDistilling)
        self.value_range = value_range

    @classmethod
    def recognise(cls, state: State) -> dict[str, Any] | None:
        """The constructor's arguments, but for the range of values, which keys do not tell."""
        return _gathering(state, "B", "c1_d.weight")


@NETWORKS.add()
class RLFN(_Efficient):
    """Residual local features: 543,740 parameters at x4.

    RLFN_S has a width of 48 (470,208); RLFN_Prune, of the challenge of 2022, a width of 46, 48 channels within and four
    blocks (317,218).

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        feature_channels: C.
        upscale: s.
        mid_channels: channels within a block; C when None.
        num_blocks: blocks.
        value_range: white, for what the network takes and gives.
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 3,
        feature_channels: int = 52,
        upscale: int = 4,
        mid_channels: int | None = None,
        num_blocks: int = 6,
        value_range: float = 255.0,
    ):
        super().__init__()
        self.scale, self.channels, self.value_range = upscale, (in_channels, out_channels), value_range
        self.conv_1 = conv3x3(in_channels, feature_channels)
        self._names = [f"block_{number}" for number in range(1, num_blocks + 1)]
        for name in self._names:
            self.add_module(name, _ResidualLocal(feature_channels, mid_channels or feature_channels))
        self.conv_2 = conv3x3(feature_channels, feature_channels)
        self.upsampler = nn.Sequential(conv3x3(feature_channels, out_channels * upscale**2))

    def _features(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        first = x_BCHW = self.conv_1(x_BCHW)
        for name in self._names:
            x_BCHW = getattr(self, name)(x_BCHW)
        features: torch.Tensor = self.upsampler(self.conv_2(x_BCHW) + first)
        return features

    @classmethod
    def recognise(cls, state: State) -> dict[str, Any] | None:
        """The constructor's arguments, but for the range of values, which keys do not tell."""
        if not {"conv_1.weight", "block_1.esa.conv_f.weight", "conv_2.weight"} <= set(state):
            return None
        width, in_channels = state["conv_1.weight"].shape[:2]
        return {
            "in_channels": in_channels,
            "out_channels": in_channels,
            "feature_channels": width,
            "mid_channels": len(state["block_1.c1_r.weight"]),
            "num_blocks": sum(key.startswith("block_") and key.endswith(".c5.weight") for key in state),
            "upscale": round((len(state["upsampler.0.weight"]) / in_channels) ** 0.5),
        }


class _Folded(nn.Module):
    """A convolution and a PReLU with a slope for each channel."""

    def __init__(self, channels: int, name: str, conv: nn.Conv2d):
        super().__init__()
        self._name = name
        self.add_module(name, conv)
        self.act = nn.PReLU(channels)

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        y_BCHW: torch.Tensor = self.act(getattr(self, self._name)(x_BCHW))
        return y_BCHW


class _EdgeEnhanced(nn.Module):
    """EFDN's block, folded: half of the input and of each of three convolutions, put together and attended to."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv1 = _Folded(channels, "conv1x1", _conv1x1(channels, channels))
        self.conv2, self.conv3 = (_Folded(channels, "rep_conv", conv3x3(channels, channels)) for _ in range(2))
        self.branch = nn.ModuleList(_conv1x1(channels, channels // 2) for _ in range(4))
        self.fuse = _conv1x1(2 * channels, channels)
        self.att = SpatialAttention(channels, channels // 4)

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        maps = [x_BCHW]
        for conv in (self.conv1, self.conv2, self.conv3):
            maps.append(conv(maps[-1]))
        halves = [branch(each) for branch, each in zip(self.branch, maps, strict=True)]
        return x_BCHW + self.att(self.fuse(torch.cat(halves, dim=1)))


@NETWORKS.add()
class EFDN(_Efficient):
    """Edge-enhanced feature distillation, folded: 276,192 parameters at x4.

    Args:
        scale: s.
        in_channels: channels of the input.
        n_feats: C, even.
        out_channels: channels of the output.
    """

    def __init__(self, scale: int = 4, in_channels: int = 3, n_feats: int = 48, out_channels: int = 3):
        super().__init__()
        self.scale, self.channels = scale, (in_channels, out_channels)
        self.head = conv3x3(in_channels, n_feats)
        self.cells = nn.ModuleList(_EdgeEnhanced(n_feats) for _ in range(4))
        self.local_fuse = nn.ModuleList(_conv1x1(2 * n_feats, n_feats) for _ in range(3))
        self.tail = nn.Sequential(conv3x3(n_feats, out_channels * scale**2))

    def _features(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        first = self.head(x_BCHW)
        one = self.cells[0](first)
        two = self.cells[1](one)
        three = self.cells[2](self.local_fuse[0](torch.cat([one, two], dim=1)))
        four = self.cells[3](self.local_fuse[1](torch.cat([two, three], dim=1)))
        features: torch.Tensor = self.tail(self.local_fuse[2](torch.cat([two, four], dim=1)) + first)
        return features

    @classmethod
    def recognise(cls, state: State) -> dict[str, Any] | None:
        """The constructor's arguments."""
        if not {"cells.0.conv2.rep_conv.weight", "local_fuse.2.weight", "tail.0.weight"} <= set(state):
            return None
        width, in_channels = state["head.weight"].shape[:2]
        scale = round((len(state["tail.0.weight"]) / in_channels) ** 0.5)
        return {"scale": scale, "in_channels": in_channels, "n_feats": width, "out_channels": in_channels}
