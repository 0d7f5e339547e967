"""A pyramid from an encoder of one stride: the simple feature pyramid of ViTDet (Li et al. 2022, arXiv 2203.16527).

    network_g:
      type: UNetRestorer
      encoder: {type: pyramid, encoder: vit_small_patch16_224}      # maps at strides 4, 8, 16, 32

ViT and its relatives give maps of one stride, 16 as a rule, so that the decoder of a U-Net would go from there to the
image in one step. Here, the map is enlarged by transposed convolutions and made smaller by pooling, each level from the
same map. An encoder like any other, so that it stands in UNetRestorer, IQT and TRIQ. Differences from the published
one: several maps of the encoder may be given, which are joined; other strides than 16 give other pyramids.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from restore.encoders.base import Encoder, Features
from restore.encoders.build import build_encoder
from restore.registry import ENCODERS, EncoderOption

__all__ = ["Pyramid"]


@ENCODERS.add("pyramid")
class Pyramid(Encoder):
    """Maps of several strides from those of an encoder that has one.

    Args:
        encoder: an encoder of one stride, as a name or a block; it normalises the image. Its last map is used, or those
            that its `out_indices` name, joined.
        in_chans: channels of the image.
        out_indices: which levels to return; None for all.
        width: channels of every level.
        strides: of the levels, each the encoder's stride times or divided by a power of two. None for 4, 8, 16, 32
            where the encoder's is a power of two; otherwise a half of it, itself and twice it, as far as these are
            whole.

    Raises:
        OptionsError: an encoder that does not exist, or options that it does not have.
        ValueError: an encoder of several strides, or a stride that cannot be made of its own.
    """

    def __init__(
        self,
        encoder: EncoderOption = "vit_tiny_patch16_224",
        in_chans: int = 3,
        out_indices: Sequence[int] | None = None,
        width: int = 256,
        strides: Sequence[int] | None = None,
    ):
        block: dict[str, Any] = dict(encoder) if isinstance(encoder, Mapping) else {"type": encoder}
        inner = build_encoder({"out_indices": [-1], **block}, in_chans=in_chans)
        if len({*inner.strides}) > 1:
            raise ValueError(f"a pyramid is made of maps of one stride; those of this encoder are {inner.strides}")
        stride = inner.strides[0]
        levels = sorted(usual_strides(stride) if strides is None else strides)
        doublings = [_doublings(stride, level) for level in levels]
        super().__init__(
            in_chans,
            channels=(width,) * len(levels),
            strides=levels,
            out_indices=out_indices,
            size_multiple=math.lcm(inner.size_multiple, stride, *levels),
        )
        self.encoder = inner
        self.levels = nn.ModuleList(_Level(sum(inner.channels), width, number) for number in doublings)

    def maps(self, x_BCHW: torch.Tensor) -> list[torch.Tensor]:
        """One map for each level."""
        return self._pyramid(self.encoder(x_BCHW))

    def features(self, x_BCHW: torch.Tensor) -> Features:
        """One map for each level, and the tokens of the encoder."""
        features = self.encoder.encode(x_BCHW)
        return replace(features, maps=self._pyramid(features.maps))

    def blocks(self) -> Sequence[nn.Module]:
        """Those of the encoder, then the levels."""
        return [*self.encoder.blocks(), *self.levels]

    def prune_to_maps(self) -> None:
        """Remove what no map of the encoder depends on."""
        super().prune_to_maps()
        self.encoder.prune_to_maps()

    def normalise(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """Values as they are: the encoder inside normalises."""
        return x_BCHW

    def _pyramid(self, maps: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        joined_BCHW = torch.cat(list(maps), dim=1)
        return [level(joined_BCHW) for level in self.levels]


class _Level(nn.Module):
    """Enlarges or reduces a map by a power of two, and brings it to the width of the pyramid."""

    def __init__(self, dim: int, width: int, doublings: int):
        super().__init__()
        steps: list[nn.Module] = []
        for _ in range(doublings):
            narrow = max(dim // 2, 1)
            steps += [*([_Norm(dim), nn.GELU()] if steps else []), nn.ConvTranspose2d(dim, narrow, 2, 2)]
            dim = narrow
        if doublings < 0:
            steps.append(nn.MaxPool2d(2**-doublings))
        project, refine = nn.Conv2d(dim, width, 1, bias=False), nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.steps = nn.Sequential(*steps, project, _Norm(width), refine, _Norm(width))

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        return self.steps(x_BCHW)


class _Norm(nn.LayerNorm):
    """Mean 0 and variance 1 over the channels of each position of (B, C, H, W)."""

    def __init__(self, dim: int):
        super().__init__(dim, eps=1e-6)

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        return super().forward(x_BCHW.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def usual_strides(stride: int) -> list[int]:
    """Strides of a pyramid that is made of a map of this stride."""
    if stride & (stride - 1) == 0:
        return [4, 8, 16, 32]
    return [*([stride // 2] if stride % 2 == 0 else []), stride, 2 * stride]


def _doublings(stride: int, level: int) -> int:
    """How often a map of this stride has to be doubled to have the stride of the level; below 0: halved."""
    larger, smaller = max(stride, level), min(stride, level)
    ratio, rest = divmod(larger, smaller)
    if rest or ratio & (ratio - 1):
        raise ValueError(
            f"a level of stride {level} cannot be made of maps of stride {stride}: times or divided by 2, 4, 8, ..."
        )
    number = ratio.bit_length() - 1
    return number if level < stride else -number
