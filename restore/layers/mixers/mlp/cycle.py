"""Cycle fully-connected layers: a linear map whose input channels are read at places that cycle along one axis.

CycleMLP, Chen et al. 2021, arXiv 2107.10224, section 3.2. Official code: github.com/ShoufaChen/CycleMLP (MIT). Checked
against the official code. Channel i is read ((i + k // 2) mod k) - k // 2 positions
further, zeros beyond the border; so the layer is a shift of each channel and a linear map, for maps of any size.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from restore.layers.arguments import require_odd
from restore.layers.mixers.base import Mixer
from restore.registry import MIXERS

__all__ = ["CycleFC", "CycleMixer"]


class CycleFC(nn.Linear):
    """A linear map of channels that are shifted first.

    Args:
        dim: channels of the input and of the output.
        kernel_size: places that channels take in turn, odd.
        axis: 0 they move along rows of the map (down), 1 along columns (across).

    Attributes:
        offset: (1, 2 C, 1, 1) how far down and across each channel is read, a buffer as in published weights. Between
            two positions it is linear interpolation; what is more than `kernel_size // 2` away is not seen.
    """

    offset: torch.Tensor

    def __init__(self, dim: int, kernel_size: int, axis: int):
        super().__init__(dim, dim)
        self.radius = kernel_size // 2
        steps = (torch.arange(dim) + self.radius) % kernel_size - self.radius
        offset = torch.zeros(dim, 2)
        offset[:, axis] = steps.float()
        self.register_buffer("offset", offset.view(1, -1, 1, 1))

    def forward(self, x_BHWC: torch.Tensor) -> torch.Tensor:
        """(B, H, W, C) to the same shape."""
        places = torch.arange(-self.radius, self.radius + 1, device=x_BHWC.device)
        down, across = (
            (1 - (places - steps_C[:, None]).abs()).clamp(min=0) for steps_C in self.offset.view(-1, 2).unbind(1)
        )
        kernel_C1KK = (down[:, None, :, None] * across[:, None, None, :]).to(x_BHWC.dtype)
        x_BCHW = x_BHWC.permute(0, 3, 1, 2)
        shifted_BCHW = F.conv2d(x_BCHW, kernel_C1KK, padding=self.radius, groups=len(kernel_C1KK))
        return super().forward(shifted_BCHW.permute(0, 2, 3, 1))


@MIXERS.add("cycle_fc")
class CycleMixer(Mixer):
    """Cycle layers along columns and rows and a linear map of the position, weighted by what the whole map holds.

    Args:
        dim: channels of the map, at least 4.
        kernel_size: places that the channels of a cycle layer take in turn, odd.
        bias: of the linear map of the position.
    """

    def __init__(self, dim: int, kernel_size: int = 3, bias: bool = False):
        require_odd(kernel_size=kernel_size)
        if dim < 4:
            raise ValueError(f"cycle_fc takes at least 4 channels, given {dim}")
        super().__init__(dim, halo_px=None)
        self.mlp_c = nn.Linear(dim, dim, bias=bias)
        self.sfc_h = CycleFC(dim, kernel_size, axis=1)
        self.sfc_w = CycleFC(dim, kernel_size, axis=0)
        self.reweight = nn.ModuleDict({"fc1": nn.Linear(dim, dim // 4), "fc2": nn.Linear(dim // 4, 3 * dim)})
        self.proj = nn.Linear(dim, dim)

    def mix(self, x_BHWC: torch.Tensor) -> torch.Tensor:
        """The weighted sum of the three."""
        branches = self.sfc_h(x_BHWC), self.sfc_w(x_BHWC), self.mlp_c(x_BHWC)
        seen_BC = sum(branches).mean(dim=(1, 2))
        scores = self.reweight["fc2"](F.gelu(self.reweight["fc1"](seen_BC)))
        weights = scores.unflatten(-1, (-1, 3)).softmax(dim=-1)[:, None, None].unbind(-1)
        return sum(branch * weight for branch, weight in zip(branches, weights, strict=True))
