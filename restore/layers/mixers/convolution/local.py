"""Mixers that look at a neighbourhood: pooling, separable and gated convolution; and the one that does not look."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import nn

from restore.layers.arguments import require_odd, require_positive
from restore.layers.mixers.base import Mixer
from restore.registry import MIXERS

__all__ = ["GatedConvolution", "IdentityMixer", "Pooling", "SeparableConvolution"]


@MIXERS.add("identity")
class IdentityMixer(Mixer):
    """No mixing: what remains of a block without it.

    MetaFormer Baselines, Yu et al. 2022, arXiv 2210.13452. Official code: github.com/sail-sg/metaformer (Apache-2.0).
    """

    side_by_side: ClassVar[Mapping[str, int]] = {}

    def __init__(self, dim: int):
        super().__init__(dim)

    def mix(self, x_BHWC: torch.Tensor) -> torch.Tensor:
        """The map itself."""
        return x_BHWC


@MIXERS.add("pooling")
class Pooling(Mixer):
    """The mean of the neighbourhood minus the position itself (PoolFormer, Yu et al. 2021, arXiv 2111.11418).

    Official code: github.com/sail-sg/poolformer (Apache-2.0).

    Args:
        dim: channels of the map.
        kernel_size: side of the neighbourhood, odd; beyond the border nothing is counted.
    """

    side_by_side: ClassVar[Mapping[str, int]] = {}

    def __init__(self, dim: int, kernel_size: int = 3):
        require_odd(kernel_size=kernel_size)
        super().__init__(dim, halo_px=kernel_size // 2)
        self.pool = nn.AvgPool2d(kernel_size, stride=1, padding=kernel_size // 2, count_include_pad=False)

    def mix(self, x_BHWC: torch.Tensor) -> torch.Tensor:
        """The mean around each position without the position itself."""
        return self.pool(x_BHWC.permute(0, 3, 1, 2)).permute(0, 2, 3, 1) - x_BHWC


@MIXERS.add("separable_conv")
class SeparableConvolution(Mixer):
    """A linear map, a depth-wise convolution and a linear map (ConvFormer, Yu et al. 2022, arXiv 2210.13452).

    Official code: github.com/sail-sg/metaformer (Apache-2.0).

    Args:
        dim: channels of the map.
        kernel_size: side of the convolution, odd.
        expansion: hidden width, in channels.
    """

    side_by_side: ClassVar[Mapping[str, int]] = {}

    def __init__(self, dim: int, kernel_size: int = 7, expansion: float = 2.0):
        require_odd(kernel_size=kernel_size)
        hidden = int(dim * expansion)
        require_positive(**{"dim": dim, "int(dim * expansion)": hidden})
        super().__init__(dim, inner_dim=hidden, halo_px=kernel_size // 2)
        self.expand = nn.Linear(dim, hidden)
        self.conv = nn.Conv2d(hidden, hidden, kernel_size, padding=kernel_size // 2, groups=hidden)
        self.reduce = nn.Linear(hidden, dim)

    def projection(self) -> nn.Linear:
        """`reduce`, as shipped weights call it."""
        return self.reduce

    def mix(self, x_BHWC: torch.Tensor) -> torch.Tensor:
        """Expand, convolve each channel."""
        hidden = F.gelu(self.expand(x_BHWC)).permute(0, 3, 1, 2)
        return self.conv(hidden).permute(0, 2, 3, 1)


@MIXERS.add("gated_conv")
class GatedConvolution(Mixer):
    """A depth-wise convolution of some channels, gated by others (MambaOut, Yu & Wang 2024, arXiv 2405.07992).

    Args:
        dim: channels of the map.
        kernel_size: side of the convolution, odd.
        expansion: width of the gated part, in channels.
    """

    side_by_side: ClassVar[Mapping[str, int]] = {"expand": 2}

    def __init__(self, dim: int, kernel_size: int = 7, expansion: float = 1.0):
        require_odd(kernel_size=kernel_size)
        hidden = int(dim * expansion)
        require_positive(**{"dim": dim, "int(dim * expansion)": hidden})
        super().__init__(dim, inner_dim=hidden, halo_px=kernel_size // 2)
        self.expand = nn.Linear(dim, 2 * hidden)
        self.conv = nn.Conv2d(hidden, hidden, kernel_size, padding=kernel_size // 2, groups=hidden)
        self.reduce = nn.Linear(hidden, dim)

    def projection(self) -> nn.Linear:
        """`reduce`, as shipped weights call it."""
        return self.reduce

    def mix(self, x_BHWC: torch.Tensor) -> torch.Tensor:
        """Convolve one part, gate it by the other."""
        gate, value = self.expand(x_BHWC).chunk(2, dim=-1)
        value = self.conv(value.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return F.gelu(gate) * value
