"""Mixers beside each other, of which training finds out the ones that count."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import torch
from torch import nn

from restore.layers.mixers.base import Mixer
from restore.layers.mixers.build import build_mixer
from restore.layers.residual import LayerScale
from restore.registry import MIXERS, MixerOption

__all__ = ["Paths"]


@MIXERS.add("paths")
class Paths(Mixer):
    """The sum of several mixers, each times a learned factor for each channel.

    After the cells of HR-NAS, Ding et al. 2021, arXiv 2106.06560, whose factors are gains of batch norms. Official
    code: github.com/dingmyu/HR-NAS (MIT). With `PathLoss`, factors of what is not needed fall to zero, and
    `restore.networks.elastic.pruned` leaves those paths out.

    Args:
        dim: channels of the map.
        mixers: the paths, by name or with their options.
    """

    def __init__(self, dim: int, mixers: Sequence[MixerOption] = ("pooling", "separable_conv")):
        if not mixers:
            raise ValueError("paths need at least one mixer (see `restore models mixer`)")
        paths = [build_mixer(each, dim, path=f"mixers.{number}") for number, each in enumerate(mixers)]
        halos = [path.halo_px for path in paths]
        rows, columns = (math.lcm(*(path.size_multiple[side] for path in paths)) for side in (0, 1))
        super().__init__(
            dim,
            size_multiple=(rows, columns),
            halo_px=None if None in halos else max(halo for halo in halos if halo is not None),
        )
        self.paths = nn.ModuleList(paths)
        self.scales = nn.ModuleList(LayerScale(dim, 1 / len(paths)) for _ in paths)

    def mix(self, x_BHWC: torch.Tensor) -> torch.Tensor:
        """The sum of what the paths make of the map."""
        return torch.stack([scale(path(x_BHWC)) for path, scale in zip(self.paths, self.scales, strict=True)]).sum(0)

    def factors(self, number: int) -> torch.Tensor:
        """(C,): what a path is multiplied by."""
        scale = self.scales[number]
        assert isinstance(scale, LayerScale)
        return scale.gamma

    def scale_output(self, factor_C: torch.Tensor) -> bool:
        """Multiply each channel of what comes out by a factor."""
        for number in range(len(self.paths)):
            self.factors(number).mul_(factor_C)
        return True

    def folded(self) -> nn.Module:
        """The same sum, with the factors in the output projections of those paths that have one."""
        for number, path in enumerate(self.paths):
            copied = copy.deepcopy(path)  # others may share it
            assert isinstance(copied, Mixer)
            if copied.scale_output(self.factors(number)):
                self.paths[number], self.scales[number] = copied, nn.Identity()
        return self
