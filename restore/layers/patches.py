"""Patches that do not overlap, and the one linear map that makes a token of each.

ViT, Dosovitskiy et al. 2020, arXiv 2010.11929, section 3.1. It is written as a convolution whose stride is its side,
which computes the same; `restore.layers.flexible_patches` has patches of a size that may change.
"""

from __future__ import annotations

from torch import nn

__all__ = ["linear_patches", "patch_projection"]


def patch_projection(in_chans: int, dim: int, patch_px: int, bias: bool = True) -> nn.Conv2d:
    """(B, in_chans, H, W) to (B, dim, H / patch_px, W / patch_px): one linear map for each patch."""
    return nn.Conv2d(in_chans, dim, patch_px, patch_px, bias=bias)


def linear_patches(in_chans: int, dim: int, patch_px: int) -> nn.Sequential:
    """The same under the name `proj`, as in published weights; a norm may be added behind it."""
    patches = nn.Sequential()
    patches.add_module("proj", patch_projection(in_chans, dim, patch_px))
    return patches
