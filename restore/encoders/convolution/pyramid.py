"""A small convolutional encoder that can be trained from nothing in minutes, also on a processor."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from restore.encoders.base import Encoder, Normalisation
from restore.layers.arguments import require_odd
from restore.layers.block_grid import grid_steps
from restore.registry import ENCODERS

__all__ = ["ConvPyramid"]

_CONTRAST = 3.0  # of the residuals, which are much smaller than the image
_GRID_CONTRAST = 8.0  # of the steps on a grid, which seldom reach 0.3


@ENCODERS.add("conv_pyramid")
class ConvPyramid(Encoder):
    """Pairs of 3x3 convolutions, the first of each halving the map. By itself there is no norm: contrast is kept.

    Args:
        in_chans: channels of the image.
        out_indices: which maps to return; None for all.
        normalisation: see `Encoder`; there are no weights.
        widths: channels of the maps, at strides 2, 4, 8, ...
        batch_norm: a batch norm after each convolution, with which it learns sooner.
        residuals_px: sides of windows, odd: what differs from the mean of such a window is given beside the image, in
            which small things stand out before anything is learnt.
        grids_px: sides of blocks, at least 2: how much of the image's steps stand on such a grid is given beside the
            image (`restore.layers.block_grid`).
    """

    def __init__(
        self,
        in_chans: int = 3,
        out_indices: Sequence[int] | None = None,
        normalisation: Normalisation = "symmetric",
        widths: Sequence[int] = (16, 32, 64),
        batch_norm: bool = False,
        residuals_px: Sequence[int] = (),
        grids_px: Sequence[int] = (),
    ):
        for side in residuals_px:
            require_odd(residuals_px=side)
        if any(side < 2 for side in grids_px):
            raise ValueError(f"grids_px is {list(grids_px)}: blocks have at least 2 pixels a side")
        strides = [2 << level for level in range(len(widths))]
        super().__init__(
            in_chans,
            channels=widths,
            strides=strides,
            out_indices=out_indices,
            size_multiple=strides[-1],
            normalisation=normalisation,
        )
        self.residuals_px, self.grids_px = tuple(residuals_px), tuple(grids_px)
        seen = in_chans * (1 + len(self.residuals_px)) + 2 * len(self.grids_px)
        self.stages = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(before, after, 3, stride=2, padding=1),
                *([nn.BatchNorm2d(after)] if batch_norm else []),
                nn.GELU(),
                nn.Conv2d(after, after, 3, padding=1),
                *([nn.BatchNorm2d(after)] if batch_norm else []),
                nn.GELU(),
            )
            for before, after in zip((seen, *widths[:-1]), widths, strict=True)
        )

        for module in self.modules():
            if isinstance(module, nn.Conv2d):  # keeps the variance; torch's default lets it fade from layer to layer
                nn.init.kaiming_normal_(module.weight)
                assert module.bias is not None
                nn.init.zeros_(module.bias)

    def maps(self, x_BCHW: torch.Tensor) -> list[torch.Tensor]:
        """Every map, finest first."""
        means = (F.avg_pool2d(x_BCHW, side, 1, side // 2, count_include_pad=False) for side in self.residuals_px)
        beside = [_CONTRAST * (x_BCHW - mean) for mean in means]
        beside += [_GRID_CONTRAST * grid_steps(x_BCHW, side) for side in self.grids_px]
        maps: list[torch.Tensor] = []
        for stage in self.stages:
            maps.append(stage(maps[-1] if maps else torch.cat([x_BCHW, *beside], dim=1)))
        return maps
