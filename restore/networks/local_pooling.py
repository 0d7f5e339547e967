"""Means over windows of the size of a training patch, in place of means over the whole image.

Chu et al. 2022, "Improving Image Restoration by Revisiting Global Information Aggregation", arXiv 2112.04491; official
code: github.com/megvii-research/TLC and the `Local` networks of github.com/megvii-research/NAFNet (MIT). A network that
pools over its input learns what means of patches are; the mean of a whole photograph is something else. Keys of the
state dict stay as they are.

What differs from the official code: sums over windows are sums of two passes in float64, one for each direction, and
windows follow from the strides of the network, not from a patch that is sent through it.

Shape legend: B batch, C channels, H x W map.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restore.layers.arguments import require_positive

__all__ = ["LocalPool", "pool_locally"]

_LARGER = 1.5  # sides of a window, in sides of a training patch


class LocalPool(nn.Module):
    """The mean of the window around each position of (B, C, H, W): (B, C, H, W), or (B, C, 1, 1) where one holds all.

    At the edge, where a window would reach beyond the map, it is the one nearest to it that does not.

    Args:
        window: rows and columns.
    """

    def __init__(self, window: Sequence[int]):
        super().__init__()
        require_positive(window=window)
        self.rows, self.columns = window

    def extra_repr(self) -> str:
        """Rows and columns."""
        return f"{self.rows}, {self.columns}"

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """As the class says."""
        H, W = x_BCHW.shape[2:]
        if self.rows >= H and self.columns >= W:
            return x_BCHW.mean(dim=(2, 3), keepdim=True)
        means = _sliding_mean(_sliding_mean(x_BCHW.double(), min(self.rows, H), 2), min(self.columns, W), 3)
        down, right = H - means.shape[2], W - means.shape[3]
        around = (right // 2, right - right // 2, down // 2, down - down // 2)
        return F.pad(means, around, mode="replicate").to(x_BCHW.dtype)


def _sliding_mean(x_BCHW: Tensor, window: int, dim: int) -> Tensor:
    """Means over `window` neighbours along one direction, which gets `window` - 1 shorter."""
    sums = x_BCHW.cumsum(dim)
    sums = torch.cat([torch.zeros_like(sums.narrow(dim, 0, 1)), sums], dim)
    length = x_BCHW.shape[dim] - window + 1
    return (sums.narrow(dim, window, length) - sums.narrow(dim, 0, length)) / window


def pool_locally(network: nn.Module, train_size: Sequence[int]) -> None:
    """Let a NAFNet pool over windows 1.5 times the size of the patches that it was trained on.

    Args:
        network: with `encoders`, each of half the size of the one before, `middle_blks`, and `decoders` back up.
        train_size: (B, C, H, W) of the patches.

    Raises:
        ValueError: it is not four numbers.
    """
    if len(train_size) != 4:
        raise ValueError(f"train_size is {list(train_size)}: batch, channels, rows and columns of a training patch")
    sides = [int(side * _LARGER) for side in train_size[2:]]
    encoders, decoders = (list(network.get_submodule(name).children()) for name in ("encoders", "decoders"))
    levels = [*enumerate(encoders), (len(encoders), network.get_submodule("middle_blks"))]
    levels += [(len(encoders) - 1 - number, decoder) for number, decoder in enumerate(decoders)]
    for level, blocks in levels:
        window = [max(1, side // 2**level) for side in sides]
        for module in blocks.modules():
            for name, child in list(module.named_children()):
                if isinstance(child, nn.AdaptiveAvgPool2d):
                    setattr(module, name, LocalPool(window))
