"""A small encoder for judging images, which can be trained from nothing in minutes, also on a processor.

Distortions show in how strong an image is at each scale and in each direction: blur takes fine detail away, noise adds
to it, compression quantises it to zero in one block and not in the next. What matters is the ratio, not the amount, so
that strength is given on a logarithmic scale, as in natural scene statistics (Simoncelli & Olshausen 2001); there, the
difference of two images' features is the log of a ratio.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from restore.encoders.base import Encoder, Normalisation
from restore.registry import ENCODERS

__all__ = ["BandEnergy"]

_FLOOR = 1e-5  # about the squared step of 8 bits, of values in [-1, 1]; its logarithm is -11.5
_CENTRE, _SPREAD = -6.0, 3.0  # of the logarithms of usual energies


@ENCODERS.add("band_energy")
class BandEnergy(Encoder):
    """The log energy of learned band-pass filters in blocks of 8x8 px, and convolutions of that.

    Args:
        in_chans: channels of the image.
        out_indices: which maps to return; None for all.
        normalisation: see `Encoder`; there are no weights.
        num_filters: filters (5x5) at each scale.
        num_scales: 1 to 4; the image is halved from one to the next.
        widths: channels of the maps, at strides 8, 16, 32, ...
    """

    def __init__(
        self,
        in_chans: int = 3,
        out_indices: Sequence[int] | None = None,
        normalisation: Normalisation = "symmetric",
        num_filters: int = 16,
        num_scales: int = 3,
        widths: Sequence[int] = (48, 64, 64),
    ):
        if not 1 <= num_scales <= 4:
            raise ValueError(f"num_scales is {num_scales}; it must be 1 to 4")
        strides = [8 << level for level in range(len(widths))]
        super().__init__(
            in_chans,
            channels=widths,
            strides=strides,
            out_indices=out_indices,
            size_multiple=strides[-1],
            normalisation=normalisation,
        )
        self.banks = nn.ParameterList(
            nn.Parameter(torch.randn(num_filters, in_chans, 5, 5) / (25 * in_chans) ** 0.5) for _ in range(num_scales)
        )
        self.stages = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(before, after, 3, stride=2 if level else 1, padding=1),
                nn.GELU(),
                nn.Conv2d(after, after, 3, padding=1),
            )
            for level, (before, after) in enumerate(zip((num_filters * num_scales, *widths[:-1]), widths, strict=True))
        )

    def maps(self, x_BCHW: torch.Tensor) -> list[torch.Tensor]:
        """Every map, finest first."""
        maps = [self._log_energies(x_BCHW)]
        for stage in self.stages:
            maps.append(stage(maps[-1]))
        return maps[1:]

    def blocks(self) -> Sequence[nn.Module]:
        """The convolutions after the energies."""
        return list(self.stages)

    def _log_energies(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        energies = []
        for scale, bank in enumerate(self.banks):
            if scale:
                x_BCHW = F.avg_pool2d(x_BCHW, 2)
            filters = bank - bank.mean(dim=(2, 3), keepdim=True)  # flat areas have no energy
            response_BFHW = F.conv2d(F.pad(x_BCHW, [2] * 4, mode="replicate"), filters)
            energies.append(F.avg_pool2d(response_BFHW.square(), 8 >> scale))
        return (torch.log(torch.cat(energies, dim=1) + _FLOOR) - _CENTRE) / _SPREAD
