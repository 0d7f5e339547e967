"""Padding to the sizes that windows and patches need, for images of any size, one pixel included."""

from __future__ import annotations

import torch
import torch.nn.functional as F

__all__ = ["pad_to_multiple", "reflect_pad"]


def pad_to_multiple(x_BCHW: torch.Tensor, height: int, width: int | None = None) -> torch.Tensor:
    """Reflect at the bottom and the right until the sides are multiples of `height` and `width` (default: `height`)."""
    H, W = x_BCHW.shape[-2:]
    return reflect_pad(x_BCHW, bottom=-H % height, right=-W % (width or height))


def reflect_pad(x_BCHW: torch.Tensor, bottom: int = 0, right: int = 0) -> torch.Tensor:
    """Reflect at the bottom and the right as often as it takes; a side of one pixel is repeated."""
    H, W = x_BCHW.shape[-2:]
    if bottom < H and right < W:
        return F.pad(x_BCHW, (0, right, 0, bottom), mode="reflect") if bottom or right else x_BCHW
    rows, columns = (_reflected_index(size, size + pad, x_BCHW.device) for size, pad in ((H, bottom), (W, right)))
    return x_BCHW[:, :, rows[:, None], columns]


def _reflected_index(size: int, padded: int, device: torch.device) -> torch.Tensor:
    period = max(2 * (size - 1), 1)
    position = torch.arange(padded, device=device) % period
    return torch.minimum(position, period - position) if size > 1 else torch.zeros_like(position)
