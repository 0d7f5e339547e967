"""Convolutions that learn as a sum of linear branches and run as one: structural re-parameterisation.

`folded()` of such a module gives the plain module that computes the same; see `restore.layers.folding`.

The branches are among those of ECBSR (Zhang, Zeng & Zhang, ACM MM 2021) and of SPAN's Conv3XC (Wan et al. 2024, arXiv
2311.12770), without biases inside, so that folding is exact at the image's border as well. What differs: the kernel is
folded before each use in training too, as the branches have no norm between them (online re-parameterisation, Hu et
al. 2022, arXiv 2204.00826). A training step then costs one convolution of the image instead of four.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restore.layers.folding import fold_norm
from restore.layers.precision import without_autocast

__all__ = ["NormedBranches", "RepConv3x3"]


class RepConv3x3(nn.Module):
    """A 3x3 convolution whose kernel is the sum of a 3x3, a 1x1 and a wide 1x1-3x3-1x1 branch.

    It starts as the 3x3 branch alone, with the initialisation and the names (`weight`, `bias`) of `nn.Conv2d`.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        expansion: channels inside the wide branch over `out_channels`.
    """

    def __init__(self, in_channels: int, out_channels: int, expansion: int = 2):
        super().__init__()
        plain, inner = nn.Conv2d(in_channels, out_channels, 3), expansion * out_channels
        assert plain.bias is not None
        self.weight, self.bias = plain.weight, plain.bias
        self.point = nn.Parameter(torch.zeros(out_channels, in_channels))
        self.expand = nn.Parameter(torch.randn(inner, in_channels) * in_channels**-0.5)
        self.spatial = nn.Parameter(torch.randn(inner, inner, 3, 3) * (9 * inner) ** -0.5)
        self.project = nn.Parameter(torch.zeros(out_channels, inner))

    def kernel(self) -> Tensor:
        """The kernel of the sum of all branches, (out_channels, in_channels, 3, 3), in the parameters' precision."""
        with without_autocast(self.bias):
            projected = torch.einsum("om,mihw->oihw", self.project, self.spatial)
            wide = torch.einsum("oihw,ic->ochw", projected, self.expand)
            return self.weight + wide + F.pad(self.point[:, :, None, None], (1, 1, 1, 1))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, in_channels, H, W) to (B, out_channels, H, W); zeros stand around the image."""
        return F.conv2d(x_BCHW, self.kernel(), self.bias, padding=1)

    @torch.no_grad()
    def folded(self) -> nn.Conv2d:
        """The plain 3x3 convolution that computes the same."""
        out_channels, in_channels = self.point.shape
        convolution = nn.Conv2d(in_channels, out_channels, 3, padding=1, device=self.bias.device, dtype=self.bias.dtype)
        convolution.weight.copy_(self.kernel())
        assert convolution.bias is not None
        convolution.bias.copy_(self.bias)
        return convolution


class NormedBranches(nn.Module):
    """The sum of a 3x3 and a 1x1 convolution, and of the input where the shape stays, each with a batch norm.

    RepVGG, Ding et al. 2021, arXiv 2101.03697; the names are those of github.com/DingXiaoH/RepOptimizers (MIT).

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        stride: of the convolutions.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1):
        super().__init__()
        self.conv_3x3 = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
        self.conv_1x1 = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)
        self.bn_3x3, self.bn_1x1 = nn.BatchNorm2d(out_channels), nn.BatchNorm2d(out_channels)
        stays = in_channels == out_channels and stride == 1
        self.bn_identity = nn.BatchNorm2d(out_channels) if stays else None

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, in_channels, H, W) to (B, out_channels, H / stride, W / stride)."""
        found_BCHW = self.bn_3x3(self.conv_3x3(x_BCHW)) + self.bn_1x1(self.conv_1x1(x_BCHW))
        return found_BCHW if self.bn_identity is None else found_BCHW + self.bn_identity(x_BCHW)

    @torch.no_grad()
    def folded(self) -> nn.Conv2d:
        """The plain 3x3 convolution that computes the same."""
        whole, point = fold_norm(self.conv_3x3, self.bn_3x3), fold_norm(self.conv_1x1, self.bn_1x1)
        others = [point]
        if self.bn_identity is not None:
            identity = copy.deepcopy(self.conv_1x1)
            identity.weight.copy_(torch.eye(len(identity.weight))[:, :, None, None])
            others.append(fold_norm(identity, self.bn_identity))
        assert whole.bias is not None
        for other in others:
            assert other.bias is not None
            whole.weight += F.pad(other.weight, (1, 1, 1, 1))
            whole.bias += other.bias
        return whole
