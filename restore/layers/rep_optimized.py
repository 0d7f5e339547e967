"""A plain convolution that learns as a sum of scaled branches would: RepOptimizer, Ding et al. 2022, arXiv 2205.15242.

The branches of a block, s conv3x3(x) + t conv1x1(x) + u x with factors for each output channel, are one 3x3
convolution. Trained by SGD, with s and t constant and u learned, the kernel of that convolution moves as a plain kernel
does whose gradient is multiplied by s^2, plus t^2 at the centre, plus 1 on the diagonal of the centre; weight decay is
not multiplied. Trained by Adam, it moves as a plain kernel does whose steps are multiplied by |s|, plus |t|, plus 1.

The paper changes the optimizers accordingly. Here what is learned is the kernel divided by a constant, which comes to
the same with any optimizer of either kind: exactly with SGD, momentum and weight decay, up to its eps with Adam.
Clipping gradients breaks it.

First one trains `ScaledBranches` for a while on little data, to find s and t; then `ConvOfBranches`, which starts and
learns by them, at the cost of a plain convolution.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

__all__ = ["ConvOfBranches", "ScaledBranches", "initial_scale"]


class _Scale(nn.Module):
    """A factor for each channel."""

    def __init__(self, dim: int, initial: float):
        super().__init__()
        self.weight = nn.Parameter(torch.full((dim,), initial))


class ScaledBranches(nn.Module):
    """s conv3x3(x) + t conv1x1(x) + u x, computed as one convolution; the last where the shape stays.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        stride: of the convolutions.
        initial: first value of s and t; that of u is 1.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1, initial: float = 1.0):
        super().__init__()
        self.stride = stride
        self.conv = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
        self.conv_1x1 = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)
        self.scale_conv, self.scale_1x1 = _Scale(out_channels, initial), _Scale(out_channels, initial)
        stays = in_channels == out_channels and stride == 1
        self.scale_identity = _Scale(out_channels, 1.0) if stays else None

    def kernel(self) -> torch.Tensor:
        """(out_channels, in_channels, 3, 3): of the one convolution."""
        centre = self.conv_1x1.weight * _column(self.scale_1x1.weight)
        if self.scale_identity is not None:
            centre = centre + torch.diag(self.scale_identity.weight)[:, :, None, None]
        return self.conv.weight * _column(self.scale_conv.weight) + F.pad(centre, (1, 1, 1, 1))

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """(B, in_channels, H, W) to (B, out_channels, H / stride, W / stride)."""
        return F.conv2d(x_BCHW, self.kernel(), stride=self.stride, padding=1)

    def folded(self) -> nn.Conv2d:
        """The one convolution."""
        return _plain(self.kernel(), self.stride)


class ConvOfBranches(nn.Module):
    """The 3x3 convolution of some branches, whose kernel learns as theirs would; their factors stay as they are.

    Args:
        branches: where the kernel starts, and what it learns as; they are not kept.
        optimizer: what it is trained with: "sgd", or "adam" for Adam, AdamW and their relatives.
    """

    scale_conv: torch.Tensor
    scale_1x1: torch.Tensor

    def __init__(self, branches: ScaledBranches, optimizer: Literal["sgd", "adam"] = "sgd"):
        super().__init__()
        self.stride, self.optimizer = branches.stride, optimizer
        self.has_identity = branches.scale_identity is not None
        self.register_buffer("scale_conv", branches.scale_conv.weight.detach().clone())
        self.register_buffer("scale_1x1", branches.scale_1x1.weight.detach().clone())
        kernel = branches.kernel().detach()
        self.divided = nn.Parameter(torch.empty_like(kernel))
        with torch.no_grad():
            self.divided.copy_(kernel / self._factor())

    def multiplier(self) -> torch.Tensor:
        """(out_channels, in_channels, 3, 3): what steps of a plain kernel would be multiplied by."""
        power = 2 if self.optimizer == "sgd" else 1
        centre = _column(self.scale_1x1.abs() ** power).expand(-1, self.divided.shape[1], -1, -1)
        if self.has_identity:
            centre = centre + torch.eye(self.divided.shape[1]).to(centre)[:, :, None, None]
        return _column(self.scale_conv.abs() ** power) + F.pad(centre, (1, 1, 1, 1))

    def _factor(self) -> torch.Tensor:
        """Of what is learned to the kernel: a step of SGD is multiplied by it twice, one of Adam once."""
        multiplier = self.multiplier().clamp(min=1e-12)
        return multiplier.sqrt() if self.optimizer == "sgd" else multiplier

    def kernel(self) -> torch.Tensor:
        """(out_channels, in_channels, 3, 3)."""
        return self.divided * self._factor()

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """(B, in_channels, H, W) to (B, out_channels, H / stride, W / stride)."""
        return F.conv2d(x_BCHW, self.kernel(), stride=self.stride, padding=1)

    def folded(self) -> nn.Conv2d:
        """The plain convolution."""
        return _plain(self.kernel(), self.stride)


def initial_scale(place: int) -> float:
    """Of s and t of a block at this place of its stage, counted from 0: sqrt(2 / place), and 1 for the first."""
    return math.sqrt(2 / place) if place else 1.0


def _column(values_C: torch.Tensor) -> torch.Tensor:
    return values_C.view(-1, 1, 1, 1)


def _plain(kernel_OI33: torch.Tensor, stride: int) -> nn.Conv2d:
    plain = nn.Conv2d(kernel_OI33.shape[1], kernel_OI33.shape[0], 3, stride, 1, bias=False).to(kernel_OI33)
    with torch.no_grad():
        plain.weight.copy_(kernel_OI33)
    return plain
