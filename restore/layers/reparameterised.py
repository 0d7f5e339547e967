"""Convolutions that learn as a sum of linear branches and run as one: structural re-parameterisation.

A module of this kind has a method `folded()`, which gives the plain module that computes the same.

The branches are those of ECBSR (Zhang, Zeng & Zhang, ACM MM 2021) and SPAN's Conv3XC (Wan et al. 2024, arXiv
2311.12770), without biases inside, so that folding is exact at the image's border as well. What differs: the kernel is
folded before each use in training too, as the branches have no norm between them (online re-parameterisation, Hu et
al. 2022, arXiv 2204.00826). A training step then costs one convolution of the image instead of four.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["RepConv3x3"]


class RepConv3x3(nn.Module):
    """A 3x3 convolution whose kernel is the sum of a 1x1, a wide 1x1-3x3-1x1 and, where it fits, the identity.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        expansion: channels inside the wide branch over `out_channels`.
    """

    def __init__(self, in_channels: int, out_channels: int, expansion: int = 2):
        super().__init__()
        inner = expansion * out_channels
        self.expand = nn.Parameter(torch.empty(inner, in_channels))
        self.spatial = nn.Parameter(torch.empty(inner, inner, 3, 3))
        self.project = nn.Parameter(torch.empty(out_channels, inner))
        self.point = nn.Parameter(torch.empty(out_channels, in_channels))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        nn.init.normal_(self.expand, std=in_channels**-0.5)
        nn.init.normal_(self.spatial, std=(9 * inner) ** -0.5)
        nn.init.normal_(self.project, std=inner**-0.5)
        nn.init.zeros_(self.point)

    def kernel(self) -> Tensor:
        """The kernel of the sum of all branches, (out_channels, in_channels, 3, 3)."""
        with torch.autocast(self.bias.device.type, enabled=False):
            inner = len(self.expand)
            left = self.project @ self.spatial.reshape(inner, -1)  # (out, inner * 9)
            kernel = torch.einsum("oikl,ic->ockl", left.view(-1, inner, 3, 3), self.expand)
            centre = self.point
            if centre.shape[0] == centre.shape[1]:
                centre = centre + torch.eye(len(centre), dtype=centre.dtype, device=centre.device)
            return kernel + F.pad(centre[:, :, None, None], (1, 1, 1, 1))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, in_channels, H, W) to (B, out_channels, H, W); zeros stand around the image."""
        return F.conv2d(x_BCHW, self.kernel(), self.bias, padding=1)

    @torch.no_grad()
    def folded(self) -> nn.Conv2d:
        """The plain 3x3 convolution that computes the same."""
        out_channels, in_channels = self.point.shape
        convolution = nn.Conv2d(in_channels, out_channels, 3, padding=1, device=self.bias.device, dtype=self.bias.dtype)
        convolution.weight.copy_(self.kernel())
        convolution.bias.copy_(self.bias)
        return convolution
