"""A small convolutional encoder that can be trained from nothing in minutes, also on a processor."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from restore.encoders.base import Encoder, Normalisation
from restore.registry import ENCODERS

__all__ = ["ConvPyramid"]


@ENCODERS.add("conv_pyramid")
class ConvPyramid(Encoder):
    """Pairs of 3x3 convolutions, the first of each halving the map. There is no normalisation: contrast is kept.

    Args:
        in_chans: channels of the image.
        out_indices: which maps to return; None for all.
        normalisation: see `Encoder`; there are no weights.
        widths: channels of the maps, at strides 2, 4, 8, ...
    """

    def __init__(
        self,
        in_chans: int = 3,
        out_indices: Sequence[int] | None = None,
        normalisation: Normalisation = "symmetric",
        widths: Sequence[int] = (16, 32, 64),
    ):
        strides = [2 << level for level in range(len(widths))]
        super().__init__(
            in_chans,
            channels=widths,
            strides=strides,
            out_indices=out_indices,
            size_multiple=strides[-1],
            normalisation=normalisation,
        )
        self.stages = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(before, after, 3, stride=2, padding=1),
                nn.GELU(),
                nn.Conv2d(after, after, 3, padding=1),
                nn.GELU(),
            )
            for before, after in zip((in_chans, *widths[:-1]), widths, strict=True)
        )

        for module in self.modules():
            if isinstance(module, nn.Conv2d):  # keeps the variance; torch's default lets it fade from layer to layer
                nn.init.kaiming_normal_(module.weight)
                assert module.bias is not None
                nn.init.zeros_(module.bias)

    def maps(self, x_BCHW: torch.Tensor) -> list[torch.Tensor]:
        """Every map, finest first."""
        maps: list[torch.Tensor] = []
        for stage in self.stages:
            maps.append(stage(maps[-1] if maps else x_BCHW))
        return maps
