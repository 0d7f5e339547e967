"""Weather, light and damage: rain streaks, haze, low light, inpainting masks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Literal

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field

from restore.degradations.operators.base import Operator, column, operator
from restore.degradations.operators.blur import filter_2d
from restore.degradations.operators.fields import field

__all__ = ["Haze", "InpaintingMask", "LowLight", "RainStreaks"]

Part = Annotated[float, Field(ge=0, le=1)]


@operator("rain_streaks")
class RainStreaks(Operator):
    """Falling drops, drawn out by the exposure into streaks that add light.

    A part `density` of the pixels holds a drop of random brightness; it is drawn out over `length_px` at `angle`
    radians from the vertical, `width_px` wide (Gaussian), and added `strength` times.
    """

    density: Annotated[float, Field(ge=0, le=0.2)] = 0.002
    length_px: Annotated[float, Field(ge=1, le=101)] = 31.0
    angle: Annotated[float, Field(ge=-math.pi / 2, le=math.pi / 2)] = 0.2
    width_px: Annotated[float, Field(gt=0, le=8)] = 0.7
    strength: Annotated[float, Field(ge=0)] = 0.6
    seed: int = 0

    def kernel(self) -> np.ndarray:
        """A streak whose brightest pixel is one."""
        size = 2 * math.ceil(self.length_px / 2 + 3 * self.width_px) + 1
        axis = np.arange(size) - (size - 1) / 2
        down, across = np.meshgrid(axis, axis, indexing="ij")
        along = np.cos(self.angle) * down + np.sin(self.angle) * across
        aside = np.cos(self.angle) * across - np.sin(self.angle) * down
        beyond = np.maximum(np.abs(along) - self.length_px / 2, 0)
        streak = np.exp(-0.5 * (aside**2 + beyond**2) / self.width_px**2)
        return streak / streak.max()

    @classmethod
    def apply(cls, x_BCHW: torch.Tensor, samples: Sequence[RainStreaks]) -> torch.Tensor:
        """Add the streaks; the result is in [0, 1]."""
        chance = field(x_BCHW, [sample.seed for sample in samples], channels=2, kind="uniform")
        drops = (chance[:, :1] < column(x_BCHW, [sample.density for sample in samples])) * chance[:, 1:]
        streaks = filter_2d(drops, [sample.kernel() for sample in samples])
        strength = column(x_BCHW, [sample.strength for sample in samples])
        return (x_BCHW + strength * streaks.clamp(0, 1)).clamp(0, 1)


@operator("haze")
class Haze(Operator):
    """Atmospheric scattering (Koschmieder): x t + airlight (1 - t) with t = exp(-thickness depth).

    There is no depth in a photograph, so a smooth random field from 0 to 1 stands for it, the top of the image being
    farther away by `slope`.
    """

    thickness: Annotated[float, Field(ge=0, le=5)] = 1.0
    airlight: Part = 0.9
    slope: Part = 0.5
    seed: int = 0

    @classmethod
    def apply(cls, x_BCHW: torch.Tensor, samples: Sequence[Haze]) -> torch.Tensor:
        """Add the haze."""
        height, width = x_BCHW.shape[-2:]
        coarse = field(x_BCHW.new_empty(len(x_BCHW), 1, 4, 4), [sample.seed for sample in samples], kind="uniform")
        clouds = F.interpolate(coarse, size=(height, width), mode="bicubic", align_corners=True).clamp(0, 1)
        ramp = torch.linspace(1, 0, height, device=x_BCHW.device, dtype=x_BCHW.dtype).view(1, 1, -1, 1)
        slope = column(x_BCHW, [sample.slope for sample in samples])
        depth = slope * ramp + (1 - slope) * clouds
        through = torch.exp(-column(x_BCHW, [sample.thickness for sample in samples]) * depth)
        return torch.lerp(column(x_BCHW, [sample.airlight for sample in samples]), x_BCHW, through)


@operator("low_light")
class LowLight(Operator):
    """Under-exposure: linear light times `exposure`; `gamma` above 1 crushes the shadows."""

    exposure: Annotated[float, Field(gt=0, le=1)] = 0.1
    gamma: Annotated[float, Field(ge=1, le=4)] = 1.0

    @classmethod
    def apply(cls, x_BCHW: torch.Tensor, samples: Sequence[LowLight]) -> torch.Tensor:
        """Darken."""
        exposure = column(x_BCHW, [sample.exposure for sample in samples])
        gamma = column(x_BCHW, [sample.gamma for sample in samples])
        return (x_BCHW.clamp(0, 1) ** (2.2 * gamma) * exposure) ** (1 / 2.2)


@operator("inpainting_mask")
class InpaintingMask(Operator):
    """Takes pixels away: single `pixels`, one `box`, or brush `strokes`, covering about a part `amount`.

    What is taken away becomes `fill`.
    """

    shape: Literal["pixels", "box", "strokes"] = "strokes"
    amount: Part = 0.25
    fill: Part = 0.0
    seed: int = 0

    @classmethod
    def apply(cls, x_BCHW: torch.Tensor, samples: Sequence[InpaintingMask]) -> torch.Tensor:
        """Fill what is taken away."""
        masks = torch.stack([sample.mask(*x_BCHW.shape[-2:]) for sample in samples])[:, None].to(x_BCHW.device)
        return torch.where(masks, column(x_BCHW, [sample.fill for sample in samples]), x_BCHW)

    def mask(self, height: int, width: int) -> torch.Tensor:
        """(H, W) bool: true where a pixel is taken away."""
        generator = torch.Generator().manual_seed(self.seed)
        if self.shape == "pixels":
            return torch.rand(height, width, generator=generator) < self.amount
        if self.shape == "box":
            return self._box(height, width, torch.rand(3, generator=generator).tolist())
        return self._strokes(height, width, generator)

    def _box(self, height: int, width: int, draws: Sequence[float]) -> torch.Tensor:
        aspect = math.exp((draws[0] - 0.5) * math.log(2))
        down = min(height, round(height * math.sqrt(self.amount) * aspect))
        across = min(width, round(self.amount * height * width / max(down, 1)))
        top, left = int(draws[1] * (height - down + 1)), int(draws[2] * (width - across + 1))
        mask = torch.zeros(height, width, dtype=torch.bool)
        mask[top : top + down, left : left + across] = True
        return mask

    def _strokes(self, height: int, width: int, generator: torch.Generator) -> torch.Tensor:
        """Bent lines of random thickness until the amount is reached."""
        canvas = np.zeros((height, width), np.uint8)
        side = min(height, width)
        while self.amount and canvas.mean() < self.amount:
            start, turns = torch.rand(3, generator=generator).tolist(), torch.rand(4, 2, generator=generator).tolist()
            thickness = max(1, round(side * (0.02 + 0.06 * start[2])))
            points, angle = [np.array([start[0] * width, start[1] * height])], 0.0
            for turn, length in turns:
                angle += 2 * math.pi * (turn if len(points) == 1 else turn / 4)
                points.append(points[-1] + side * (0.1 + 0.2 * length) * np.array([math.cos(angle), math.sin(angle)]))
            cv2.polylines(canvas, [np.round(points).astype(np.int32)], False, 1, thickness)
        return torch.from_numpy(canvas.astype(bool))
