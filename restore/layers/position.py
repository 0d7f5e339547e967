"""Where a token is, for mixers that do not know: added to the map, for maps of any size."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from restore.layers.arguments import require_odd, require_positive
from restore.layers.exportable import is_of_size, resized_with_filter, unflattened
from restore.registry import POSITIONS

__all__ = ["ConvPosition", "LearnedPosition", "SinusoidPosition", "none", "resampled_table", "sinusoid_table"]


@POSITIONS.add("none")
def none(dim: int) -> nn.Identity:
    """Nothing is added."""
    return nn.Identity()


@POSITIONS.add("conv")
class ConvPosition(nn.Module):
    """A depth-wise convolution added to its input (CPVT, Chu et al. 2021, arXiv 2102.10882).

    Args:
        dim: channels of the map.
        kernel_size: side of the convolution, odd.
    """

    def __init__(self, dim: int, kernel_size: int = 3):
        super().__init__()
        require_odd(kernel_size=kernel_size)
        self.conv = nn.Conv2d(dim, dim, kernel_size, padding=kernel_size // 2, groups=dim)

    def forward(self, x_BHWC: torch.Tensor) -> torch.Tensor:
        """(B, H, W, C) to the same shape."""
        return x_BHWC + self.conv(x_BHWC.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


@POSITIONS.add("learned")
class LearnedPosition(nn.Module):
    """A learned vector for each place of a grid, resized (bicubic) to the map.

    ViT, Dosovitskiy et al. 2020, arXiv 2010.11929, section 3.2.

    Args:
        dim: channels of the map.
        grid_px: side of the grid.
    """

    def __init__(self, dim: int, grid_px: int = 16):
        super().__init__()
        require_positive(grid_px=grid_px)
        self.table = nn.Parameter(torch.empty(1, grid_px, grid_px, dim))
        nn.init.trunc_normal_(self.table, std=0.02)

    def forward(self, x_BHWC: torch.Tensor) -> torch.Tensor:
        """(B, H, W, C) to the same shape."""
        size = x_BHWC.shape[1:3]
        return x_BHWC + unflattened(resampled_table(self.table.flatten(1, 2), size), 1, size)


def resampled_table(
    table_1NC: torch.Tensor,
    size: Sequence[int],
    num_prefix: int = 0,
    mode: Literal["bicubic", "bilinear"] = "bicubic",
    antialias: bool = False,
) -> torch.Tensor:
    """A table of positions of a square grid for a grid of another size, by interpolation.

    Args:
        table_1NC: one vector for each place, row by row.
        size: rows and columns wanted.
        num_prefix: vectors of tokens before the grid, which stay as they are.
        mode: of the interpolation.
        antialias: whether a coarser grid gets means of the finer one's neighbourhoods.
    """
    side = math.isqrt(table_1NC.shape[1] - num_prefix)
    assert side * side == table_1NC.shape[1] - num_prefix, "the table is of a square grid"
    if is_of_size(size, (side, side)):
        return table_1NC
    grid_1CHW = table_1NC[:, num_prefix:].unflatten(1, (side, side)).permute(0, 3, 1, 2)
    if antialias:
        resized_1CHW = resized_with_filter(grid_1CHW, size, mode)
    else:
        resized_1CHW = F.interpolate(grid_1CHW, tuple(size), mode=mode, align_corners=False)
    resized_1NC = resized_1CHW.flatten(2).transpose(1, 2)
    return torch.cat([table_1NC[:, :num_prefix], resized_1NC], dim=1) if num_prefix else resized_1NC


@POSITIONS.add("sinusoid")
class SinusoidPosition(nn.Module):
    """Fixed sines and cosines of the row in one half of the channels, of the column in the other.

    Vaswani et al. 2017, arXiv 1706.03762, here for two dimensions.
    """

    def __init__(self, dim: int):
        super().__init__()
        if dim % 4:
            raise ValueError(f"sinusoidal positions need a width that is a multiple of 4, given {dim}")

    def forward(self, x_BHWC: torch.Tensor) -> torch.Tensor:
        """(B, H, W, C) to the same shape."""
        sinusoids = _sinusoids if torch.compiler.is_compiling() else _cached_sinusoids
        _, height, width, dim = x_BHWC.shape
        return x_BHWC + sinusoids(height, width, dim, x_BHWC.device).to(x_BHWC.dtype)


def sinusoid_table(count: int, dim: int) -> torch.Tensor:
    """(1, count, dim): sines of a token's place at even, cosines at odd channels (arXiv 1706.03762, section 3.5)."""
    place = torch.arange(count, dtype=torch.float64)[:, None]
    channel = torch.arange(dim)
    angle = place / 10000.0 ** (2 * (channel // 2) / dim)
    return torch.where(channel % 2 == 0, angle.sin(), angle.cos()).float()[None]


def _sinusoids(height: int, width: int, dim: int, device: torch.device) -> torch.Tensor:
    frequency = 10_000.0 ** -torch.linspace(0, 1, dim // 4, device=device)
    rows, columns = (torch.arange(size, device=device)[:, None] * frequency for size in (height, width))
    rows, columns = (torch.cat([angle.sin(), angle.cos()], dim=-1) for angle in (rows, columns))
    return torch.cat([rows[:, None].expand(-1, width, -1), columns[None].expand(height, -1, -1)], dim=-1)


@functools.lru_cache(maxsize=16)
def _cached_sinusoids(height: int, width: int, dim: int, device: torch.device) -> torch.Tensor:
    with torch.inference_mode(False), torch.no_grad():
        return _sinusoids(height, width, dim, device)
