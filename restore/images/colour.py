"""Colour spaces of the field's evaluation protocols, on tensors (B, C, H, W) in [0, 1].

Luma and YCbCr are ITU-R BT.601 in studio range, as MATLAB's rgb2ycbcr and published super-resolution figures have it:
Y in [16, 235] / 255, Cb and Cr in [16, 240] / 255.
"""

from __future__ import annotations

import torch
from torch import Tensor

from restore.errors import ImageError

__all__ = ["LUMA", "STUDIO_LUMA", "grey_to_rgb", "rgb_to_grey", "rgb_to_y", "rgb_to_ycbcr", "y_to_rgb", "ycbcr_to_rgb"]

LUMA = (0.299, 0.587, 0.114)
"""BT.601's weights of R, G and B: full-range luma in [0, 1] of RGB in [0, 1]."""

STUDIO_LUMA = (65.481 / 255, 128.553 / 255, 24.966 / 255)
"""The same for luma in studio range, without its offset of 16/255."""

_TO_YCBCR = torch.tensor(
    [[65.481, 128.553, 24.966], [-37.797, -74.203, 112.0], [112.0, -93.786, -18.214]], dtype=torch.float64
)
_OFFSET = torch.tensor([16.0, 128.0, 128.0], dtype=torch.float64)
_TO_RGB = torch.linalg.inv(_TO_YCBCR)
_GREY = torch.tensor([LUMA], dtype=torch.float64)


def rgb_to_ycbcr(rgb_BCHW: Tensor) -> Tensor:
    """RGB in [0, 1] as studio-range YCbCr, also on the scale on which 1 stands for 255."""
    return _mixed(rgb_BCHW, _TO_YCBCR / 255.0, _OFFSET / 255.0)


def ycbcr_to_rgb(ycbcr_BCHW: Tensor) -> Tensor:
    """The exact inverse of `rgb_to_ycbcr`; not clamped."""
    return _mixed(ycbcr_BCHW, _TO_RGB * 255.0, -_TO_RGB @ _OFFSET)


def rgb_to_y(rgb_BCHW: Tensor) -> Tensor:
    """Luma (B, 1, H, W) in [16/255, 235/255]."""
    return _mixed(rgb_BCHW, _TO_YCBCR[:1] / 255.0, _OFFSET[:1] / 255.0)


def y_to_rgb(y_B1HW: Tensor) -> Tensor:
    """Studio-range luma as a grey RGB image in [0, 1], whose luma it is."""
    _check_channels(y_B1HW, 1)
    return ((y_B1HW * 255.0 - 16.0) / 219.0).expand(-1, 3, -1, -1)


def rgb_to_grey(rgb_BCHW: Tensor) -> Tensor:
    """Full-range grey (B, 1, H, W) in [0, 1], with the BT.601 weights: what image readers do when asked for grey."""
    return _mixed(rgb_BCHW, _GREY, torch.zeros(1, dtype=torch.float64))


def grey_to_rgb(grey_B1HW: Tensor) -> Tensor:
    """Three equal channels (a view)."""
    _check_channels(grey_B1HW, 1)
    return grey_B1HW.expand(-1, 3, -1, -1)


def _mixed(x_BCHW: Tensor, matrix: Tensor, offset: Tensor) -> Tensor:
    _check_channels(x_BCHW, matrix.shape[1])
    matrix, offset = matrix.to(x_BCHW), offset.to(x_BCHW)
    return torch.einsum("oc,bchw->bohw", matrix, x_BCHW) + offset[:, None, None]


def _check_channels(x_BCHW: Tensor, channels: int) -> None:
    if x_BCHW.ndim != 4 or x_BCHW.shape[1] != channels:
        raise ImageError(f"a tensor (B, {channels}, H, W) is needed; given: {tuple(x_BCHW.shape)}")
