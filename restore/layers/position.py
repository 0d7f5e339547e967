"""Where a token is, for mixers that do not know: added to the map, for maps of any size."""

from __future__ import annotations

import functools

import torch
from torch import nn

__all__ = ["POSITIONS", "ConvPosition", "SinusoidPosition"]


class ConvPosition(nn.Module):
    """A depth-wise 3x3 convolution added to its input (CPVT, Chu et al. 2021, arXiv 2102.10882)."""

    def __init__(self, dim: int):
        super().__init__()
        self.conv = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)

    def forward(self, x_BHWC: torch.Tensor) -> torch.Tensor:
        """(B, H, W, C) to the same shape."""
        return x_BHWC + self.conv(x_BHWC.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class SinusoidPosition(nn.Module):
    """Fixed sines and cosines of the row in one half of the channels, of the column in the other (arXiv 1706.03762)."""

    def __init__(self, dim: int):
        super().__init__()
        if dim % 4:
            raise ValueError(f"sinusoidal positions need a width that is a multiple of 4, given {dim}")

    def forward(self, x_BHWC: torch.Tensor) -> torch.Tensor:
        """(B, H, W, C) to the same shape."""
        sinusoids = _sinusoids if torch.compiler.is_compiling() else _cached_sinusoids
        return x_BHWC + sinusoids(*x_BHWC.shape[1:], x_BHWC.device).to(x_BHWC.dtype)


def _sinusoids(height: int, width: int, dim: int, device: torch.device) -> torch.Tensor:
    frequency = 10_000.0 ** -torch.linspace(0, 1, dim // 4, device=device)
    rows, columns = (torch.arange(size, device=device)[:, None] * frequency for size in (height, width))
    rows, columns = (torch.cat([angle.sin(), angle.cos()], dim=-1) for angle in (rows, columns))
    return torch.cat([rows[:, None].expand(-1, width, -1), columns[None].expand(height, -1, -1)], dim=-1)


@functools.lru_cache(maxsize=16)
def _cached_sinusoids(height: int, width: int, dim: int, device: torch.device) -> torch.Tensor:
    with torch.inference_mode(False), torch.no_grad():
        return _sinusoids(height, width, dim, device)


POSITIONS = {"none": lambda dim: nn.Identity(), "conv": ConvPosition, "sinusoid": SinusoidPosition}
