"""Recursive gated convolution: a ladder of products of ever more channels, each gated by a depth-wise convolution.

HorNet, Rao et al. 2022, arXiv 2207.14284, section 3.1. Official code: github.com/raoyongming/HorNet (MIT). Checked
against the official code. With channels d_k = C / 2^(n-1-k), k = 0..n-1:
(p_0, q_0..q_{n-1}) = (split of W_in x, the q's after the convolution and times `scale`), p = p_0 q_0,
p = (W_k p) q_k, and the output is W_out p.
"""

from __future__ import annotations

import torch
from torch import nn

from restore.layers.arguments import require_odd, require_positive
from restore.layers.mixers.base import Mixer
from restore.layers.mixers.spectral.global_filter import LocalGlobalFilter
from restore.registry import MIXERS

__all__ = ["RecursiveGatedConvolution"]


@MIXERS.add("recursive_gated_conv")
class RecursiveGatedConvolution(Mixer):
    """Gated convolution of order n.

    Args:
        dim: channels of the map; a multiple of 2^(order - 1).
        order: n, how many gates stand one after the other.
        kernel_size: side of the depth-wise convolution, odd.
        filter_size: rows of a global filter that takes the place of the convolution (the second published variant); it
            is resampled to the size of the map. None: the convolution.
        scale: factor of what gates.
    """

    def __init__(
        self, dim: int, order: int = 3, kernel_size: int = 7, filter_size: int | None = None, scale: float = 1 / 3
    ):
        require_positive(order=order)
        require_odd(kernel_size=kernel_size)
        if dim % 2 ** (order - 1):
            raise ValueError(f"dim {dim} must be a multiple of {2 ** (order - 1)} for order {order}")
        super().__init__(dim, halo_px=kernel_size // 2 if filter_size is None else None)
        self.widths = [dim >> (order - 1 - k) for k in range(order)]
        gates = sum(self.widths)
        self.scale = scale
        self.proj_in = nn.Linear(dim, 2 * dim)
        self.dwconv: nn.Module
        if filter_size is None:
            self.dwconv = nn.Conv2d(gates, gates, kernel_size, padding=kernel_size // 2, groups=gates)
        else:
            self.dwconv = LocalGlobalFilter(gates, filter_size)
        self.pws = nn.ModuleList(nn.Linear(self.widths[k], self.widths[k + 1]) for k in range(order - 1))
        self.proj_out = nn.Linear(dim, dim)

    def projection(self) -> nn.Linear:
        """The last linear map."""
        return self.proj_out

    def mix(self, x_BHWC: torch.Tensor) -> torch.Tensor:
        """The last product of the ladder."""
        value, gates = self.proj_in(x_BHWC).split([self.widths[0], sum(self.widths)], dim=-1)
        gates = self.dwconv(gates.permute(0, 3, 1, 2)).permute(0, 2, 3, 1) * self.scale
        first, *others = gates.split(self.widths, dim=-1)
        value = value * first
        for widen, gate in zip(self.pws, others, strict=True):
            value = widen(value) * gate
        return value
