"""Padding to the sizes that windows and patches need, for images of any size, one pixel included; tiles of one size.

These are what networks do inside their forward pass. The padding policies of published evaluations, by name, are in
`restore.images.padding`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from restore.layers.exportable import ceil_divide, is_exporting

__all__ = ["crop", "cut_squares", "cut_tiles", "pad_to_multiple", "paste_squares", "paste_tiles"]


def pad_to_multiple(x_BCHW: torch.Tensor, multiple: int | tuple[int, int]) -> torch.Tensor:
    """Reflect at the bottom and the right, as often as it takes, until each side is a multiple of its number."""
    H, W = x_BCHW.shape[-2:]
    rows, columns = (multiple, multiple) if isinstance(multiple, int) else multiple
    if is_exporting():  # one formula for every size
        sizes = ((size, ceil_divide(size, each) * each) for size, each in ((H, rows), (W, columns)))
        down, across = (_reflected_index(size, padded, x_BCHW.device) for size, padded in sizes)
        return x_BCHW.index_select(2, down).index_select(3, across)
    bottom, right = -H % rows, -W % columns
    if not (bottom or right):
        return x_BCHW
    if bottom < H and right < W:
        return F.pad(x_BCHW, (0, right, 0, bottom), mode="reflect")
    down, across = (_reflected_index(size, size + pad, x_BCHW.device) for size, pad in ((H, bottom), (W, right)))
    return x_BCHW[:, :, down[:, None], across]


def crop(x_BCHW: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """The upper left part of this size."""
    if is_exporting():  # a slice would ask whether it leaves anything out
        rows, columns = (torch.arange(size, device=x_BCHW.device) for size in (height, width))
        return x_BCHW.index_select(2, rows).index_select(3, columns)
    return x_BCHW[:, :, :height, :width]


def _reflected_index(size: int, padded: int, device: torch.device) -> torch.Tensor:
    """Where each position of a reflected side comes from; a side of one pixel is repeated."""
    position = torch.arange(padded, device=device)
    # 1 where the size is 1, also where that is a symbol; a tensor, as ONNX divides by no symbol
    period = torch.zeros_like(position) + (2 * (size - 1) + 1 // size)
    return torch.minimum(position % period, -position % period)


def cut_tiles(map_BCHW: torch.Tensor, size: int | tuple[int, int]) -> torch.Tensor:
    """Tiles (B * rows * columns, C, h, w) of a map whose sides are multiples of `size`, one number or two."""
    B, C, H, W = map_BCHW.shape
    h, w = (size, size) if isinstance(size, int) else size
    tiles = map_BCHW.view(B, C, H // h, h, W // w, w)
    return tiles.permute(0, 2, 4, 1, 3, 5).reshape(-1, C, h, w)


def paste_tiles(tiles_TCHW: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """The maps (B, C, rows * H, columns * W) that were cut into these tiles."""
    C, H, W = tiles_TCHW.shape[1:]
    tiles = tiles_TCHW.view(-1, rows, columns, C, H, W)
    return tiles.permute(0, 3, 1, 4, 2, 5).reshape(-1, C, rows * H, columns * W)


def cut_squares(map_BHWC: torch.Tensor, side: int) -> torch.Tensor:
    """Squares (B * rows * columns, side, side, C) of a channels-last map whose sides are multiples of `side`."""
    B, H, W, C = map_BHWC.shape
    squares = map_BHWC.reshape(B, H // side, side, W // side, side, C)
    return squares.transpose(2, 3).reshape(-1, side, side, C)


def paste_squares(squares_SHWC: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """The channels-last maps of this size that were cut into these squares."""
    side, C = squares_SHWC.shape[2:]
    squares = squares_SHWC.reshape(-1, height // side, width // side, side, side, C)
    return squares.transpose(2, 3).reshape(-1, height, width, C)
