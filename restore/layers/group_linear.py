"""Linear maps of groups of channels: one matrix for each group, so that groups do not meet."""

from __future__ import annotations

import torch
from torch import nn

__all__ = ["GroupLinear"]


class GroupLinear(nn.Linear):
    """A linear map whose matrix is block-diagonal: DeFINE, Mehta et al. 2020, arXiv 1911.12385, section 3.

    Args:
        in_features: channels that come in, a multiple of `groups`.
        out_features: channels that go out, a multiple of `groups`.
        groups: blocks; with one it is a linear map.
        bias: one number for each channel that goes out.

    Attributes:
        weight: (out_features, in_features / groups), the blocks below each other.
    """

    def __init__(self, in_features: int, out_features: int, groups: int, bias: bool = True):
        if in_features % groups or out_features % groups:
            raise ValueError(f"{in_features} and {out_features} channels must be multiples of {groups} groups")
        super().__init__(in_features // groups, out_features, bias)
        self.in_features, self.groups = in_features, groups

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., in_features) to (..., out_features)."""
        product = self.product(x)
        return product if self.bias is None else product + self.bias

    def product(self, x: torch.Tensor) -> torch.Tensor:
        """The linear map without its bias."""
        blocks_GOI = self.weight.unflatten(0, (self.groups, -1))
        return torch.einsum("...gi,goi->...go", x.unflatten(-1, (self.groups, -1)), blocks_GOI).flatten(-2)
