"""Brightness, contrast and colour: what a wrong exposure or a careless edit does to a photograph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field

from restore.degradations.operators.base import Operator, column, operator
from restore.degradations.operators.noise import luma

__all__ = ["Contrast", "Exposure", "Saturation"]

Factor = Annotated[float, Field(ge=0, le=10)]
GAMMA = 2.2


@operator("contrast")
class Contrast(Operator):
    """Differences from the image's mean grey value times `factor`; below 1 contrast is lost, above 1 it clips."""

    factor: Factor

    @classmethod
    def apply(cls, x_BCHW: torch.Tensor, samples: Sequence[Contrast]) -> torch.Tensor:
        """Move every value towards the mean, or away from it."""
        mean = luma(x_BCHW).mean(dim=(1, 2, 3), keepdim=True)
        return torch.lerp(mean, x_BCHW, column(x_BCHW, [sample.factor for sample in samples])).clamp(0, 1)


@operator("exposure")
class Exposure(Operator):
    """Linear light times 2^`stops`, clipped at white: over-exposure where `stops` is positive."""

    stops: Annotated[float, Field(ge=-10, le=10)]

    @classmethod
    def apply(cls, x_BCHW: torch.Tensor, samples: Sequence[Exposure]) -> torch.Tensor:
        """Brighten or darken."""
        factors = column(x_BCHW, [2 ** (sample.stops / GAMMA) for sample in samples])
        return (x_BCHW * factors).clamp(0, 1)


@operator("saturation")
class Saturation(Operator):
    """Differences from each pixel's grey value times `factor`; 0 is a grey image in the channels that were given."""

    factor: Factor

    @classmethod
    def apply(cls, x_BCHW: torch.Tensor, samples: Sequence[Saturation]) -> torch.Tensor:
        """Take colour away, or add it; a grey image is left as it is."""
        if x_BCHW.shape[1] != 3:
            return x_BCHW.clone()
        return torch.lerp(luma(x_BCHW), x_BCHW, column(x_BCHW, [sample.factor for sample in samples])).clamp(0, 1)
