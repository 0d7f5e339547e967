"""Patches of any size from the weights of one: FlexiViT (Beyer et al. 2023, arXiv 2212.08013, section 3.4).

A patch that is resized by the matrix B has the same embedding as before if the weights w of the embedding become
pinv(B^T) w: exactly where the patch grows, in the least-squares sense where it shrinks. Resizing is separable, so B is
the Kronecker product of a matrix for rows and one for columns, and so is its pseudo-inverse.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from restore.layers.arguments import require_positive
from restore.layers.padding import pad_to_multiple
from restore.layers.patches import patch_projection
from restore.layers.precision import without_autocast

__all__ = ["FlexiblePatches", "Interpolation", "pi_matrix", "pi_resize", "resize_matrix"]

Interpolation = Literal["bilinear", "bicubic"]
"""How patches are resized: bilinearly without a low-pass filter (the official code), or bicubically with one (timm)."""


def resize_matrix(old: int, new: int, interpolation: Interpolation = "bilinear") -> torch.Tensor:
    """(new, old) in float64: the matrix that resizes a row of `old` pixels to `new`."""
    columns = torch.eye(old, dtype=torch.float64, device="cpu").view(1, old, 1, old)  # a picture for each unit row
    resized = F.interpolate(
        columns, (1, new), mode=interpolation, align_corners=False, antialias=interpolation == "bicubic"
    )
    return resized[0, :, 0].T


def pi_matrix(old: int, new: int, interpolation: Interpolation = "bilinear") -> torch.Tensor:
    """(new, old) in float64: what the weights of a row of a patch are multiplied by when the patch is resized."""
    return torch.linalg.pinv(resize_matrix(old, new, interpolation).T)


def pi_resize(weight_OIhw: torch.Tensor, size: int, interpolation: Interpolation = "bilinear") -> torch.Tensor:
    """(O, I, size, size): the weights of an embedding of square patches, for patches of another side.

    Weights that were resized are not to be resized again: the way back does not give what was there before.
    """
    matrix = pi_matrix(weight_OIhw.shape[-1], size, interpolation)
    return _applied(weight_OIhw, matrix.to(weight_OIhw))


def _applied(weight_OIhw: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    return matrix @ weight_OIhw @ matrix.T


class FlexiblePatches(nn.Module):
    """A linear map of each patch of an image, of any side among some; the weights `proj` are those of one side.

    Args:
        in_chans: channels of the image.
        dim: channels of the result.
        stored_px: side of the patches that the weights are of.
        patch_px: side of the patches where nothing else is said.
        others_px: sides that may be asked for besides.
        interpolation: see `Interpolation`.
    """

    def __init__(
        self,
        in_chans: int,
        dim: int,
        stored_px: int,
        patch_px: int,
        others_px: Iterable[int] = (),
        interpolation: Interpolation = "bilinear",
    ):
        super().__init__()
        sides = sorted({patch_px, *others_px})
        require_positive(stored_px=stored_px, patch_px=sides)
        self.proj = patch_projection(in_chans, dim, stored_px)
        self.patch_px, self.sides = patch_px, sides
        for side in sides:
            matrix = pi_matrix(stored_px, side, interpolation).float()
            self.register_buffer(f"matrix_{side}", None if side == stored_px else matrix, persistent=False)

    def forward(self, x_BCHW: torch.Tensor, patch_px: int | None = None) -> torch.Tensor:
        """(B, in_chans, H, W) to (B, dim, H / patch_px, W / patch_px); sides that do not fit are reflected first.

        Raises:
            ValueError: patches of a side that the module was not made for.
        """
        side = self.patch_px if patch_px is None else patch_px
        if side not in self.sides:
            raise ValueError(f"patches of {side} px: this embedding was made for {', '.join(map(str, self.sides))} px")
        return F.conv2d(pad_to_multiple(x_BCHW, side), self.weight(side), self.proj.bias, stride=side)

    def weight(self, patch_px: int) -> torch.Tensor:
        """(dim, in_chans, patch_px, patch_px): the weights for patches of this side."""
        matrix = getattr(self, f"matrix_{patch_px}")
        if matrix is None:
            return self.proj.weight
        with without_autocast(self.proj.weight):
            return _applied(self.proj.weight, matrix.to(self.proj.weight))

    def folded(self) -> nn.Module:
        """The plain convolution for patches of `patch_px`."""
        plain = nn.Conv2d(self.proj.in_channels, self.proj.out_channels, self.patch_px, self.patch_px)
        plain = plain.to(self.proj.weight)
        assert plain.bias is not None
        assert self.proj.bias is not None
        with torch.no_grad():
            plain.weight.copy_(self.weight(self.patch_px))
            plain.bias.copy_(self.proj.bias)
        return plain
