"""Linear maps over the positions of a window, which channels share: MLP-Mixer, ResMLP, gMLP and Swin-MLP.

MLP-Mixer (Tolstikhin et al. 2021, arXiv 2105.01601), ResMLP (Touvron et al. 2021, arXiv 2105.03404), gMLP (Liu et al.
2021, arXiv 2105.08050), Swin-MLP (Liu et al. 2021). Official code of the last: github.com/microsoft/Swin-Transformer
(MIT). Checked against the official code.

Shape legend: W windows of the whole batch, N positions of a window, S sets of channels.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from restore.layers.arguments import require_positive
from restore.layers.mixers.base import Mixer
from restore.layers.padding import cut_squares, paste_squares
from restore.registry import MIXERS

__all__ = ["PositionLinear", "SpatialMLP"]


class PositionLinear(nn.Module):
    """A linear map of positions: one matrix for each of several sets of channels.

    Args:
        num_sets: S.
        num_in: positions that come in.
        num_out: positions that go out.
        bias: one number for each position and set.
    """

    bias: nn.Parameter | None

    def __init__(self, num_sets: int, num_in: int, num_out: int, bias: bool = True):
        super().__init__()
        self.num_sets, self.num_in = num_sets, num_in
        self.weight = nn.Parameter(torch.empty(num_sets * num_out, num_in))
        nn.init.trunc_normal_(self.weight, std=0.02)
        self.bias = nn.Parameter(torch.zeros(num_sets * num_out)) if bias else None

    def forward(self, x_WSNC: torch.Tensor) -> torch.Tensor:
        """(W, S, num_in, C) to (W, S, num_out, C)."""
        mixed = torch.einsum("smn,wsnc->wsmc", self.weight.unflatten(0, (self.num_sets, -1)), x_WSNC)
        return mixed if self.bias is None else mixed + self.bias.view(self.num_sets, -1, 1)


@MIXERS.add("spatial_mlp")
class SpatialMLP(Mixer):
    """Mixes the positions of each window by learned matrices; beyond the border of the map stand zeros.

    Args:
        dim: channels of the map.
        window_size: side of the windows.
        num_heads: sets of channels, each with matrices of its own.
        shifted: windows begin half a window outside the map, so that they overlap those of blocks without a shift.
        mode: "linear" one matrix (ResMLP, Swin-MLP); "mlp" two with a GELU between them (MLP-Mixer); "gated" channels
            are expanded, and one half is multiplied by a linear map of the positions of the other (gMLP).
        expansion: hidden positions of "mlp", in positions of a window; or hidden channels of "gated", in channels.
    """

    def __init__(
        self,
        dim: int,
        window_size: int = 8,
        num_heads: int = 1,
        shifted: bool = False,
        mode: Literal["linear", "mlp", "gated"] = "linear",
        expansion: float = 2.0,
    ):
        require_positive(window_size=window_size, num_heads=num_heads, expansion=expansion)
        width = int(dim * expansion) // 2 if mode == "gated" else dim
        if not width or width % num_heads:
            raise ValueError(f"the {width} channels that are mixed must be a multiple of num_heads {num_heads}")
        super().__init__(dim, inner_dim=width, halo_px=window_size - 1)
        self.window_size, self.num_heads, self.mode = window_size, num_heads, mode
        self.shift = window_size // 2 * shifted
        num_positions = window_size**2
        if mode == "mlp":
            hidden = max(int(num_positions * expansion), 1)
            self.expand_positions = PositionLinear(num_heads, num_positions, hidden)
            self.spatial_mlp = PositionLinear(num_heads, hidden, num_positions)
        else:
            self.spatial_mlp = PositionLinear(num_heads, num_positions, num_positions)
        if mode == "gated":
            self.expand, self.norm = nn.Linear(dim, 2 * width), nn.LayerNorm(width)
            self.proj = nn.Linear(width, dim)
            with torch.no_grad():  # at first the gate is 1
                self.spatial_mlp.weight.mul_(1e-3)
            self.spatial_mlp.bias = nn.Parameter(torch.ones(num_heads * num_positions))

    def mix(self, x_BHWC: torch.Tensor) -> torch.Tensor:
        """The mixed windows, or the half of the channels that they gate."""
        if self.mode != "gated":
            return self._windows(x_BHWC)
        value, gate = F.gelu(self.expand(x_BHWC)).chunk(2, dim=-1)
        return value * self._windows(self.norm(gate))

    def _windows(self, x_BHWC: torch.Tensor) -> torch.Tensor:
        _, H, W, C = x_BHWC.shape
        side, before = self.window_size, (self.window_size - self.shift) % self.window_size
        bottom, right = (-(size + before) % side for size in (H, W))
        padded_BHWC = F.pad(x_BHWC, (0, 0, before, right, before, bottom))
        tokens_WNC = cut_squares(padded_BHWC, side).flatten(1, 2)
        x_WSNC = tokens_WNC.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
        if self.mode == "mlp":
            x_WSNC = F.gelu(self.expand_positions(x_WSNC))
        mixed_WNC = self.spatial_mlp(x_WSNC).transpose(1, 2).flatten(2)
        mixed_BHWC = paste_squares(mixed_WNC.view(-1, side, side, C), *padded_BHWC.shape[1:3])
        return mixed_BHWC[:, before : before + H, before : before + W]
