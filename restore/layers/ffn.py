"""Feed-forward networks: the second slot of a block, channels-last maps in and out.

`FEED_FORWARDS` names those that an option file can choose; each is built from the width and the hidden width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from restore.layers.precision import add_branch

__all__ = ["FEED_FORWARDS", "DepthwiseFeedForward", "FeedForward", "GatedFeedForward", "depthwise_feed_forward"]


class FeedForward(nn.Module):
    """Two linear maps with a GELU between them; each position by itself."""

    def __init__(self, dim: int, hidden: int, drop: float = 0.0):
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)
        self.drop = nn.Dropout(drop)

    def forward(self, x_BHWC: torch.Tensor) -> torch.Tensor:
        """(B, H, W, C) to the same shape."""
        return self.drop(add_branch(self.fc2, self.drop(F.gelu(self.fc1(x_BHWC)))))


class DepthwiseFeedForward(nn.Module):
    """A feed-forward network that looks at its neighbours (see `depthwise_feed_forward`); the keys are EDT's."""

    def __init__(self, dim: int, hidden: int, kernel_size: int = 5):
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.dwconv = nn.Conv2d(hidden, hidden, kernel_size, padding=kernel_size // 2, groups=hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x_BHWC: torch.Tensor) -> torch.Tensor:
        """(B, H, W, C) to the same shape."""
        return depthwise_feed_forward(x_BHWC, self.fc1, self.dwconv, self.fc2)


class GatedFeedForward(nn.Module):
    """A depth-wise convolution of one half of the hidden channels, gated by the other (Restormer, arXiv 2111.09881)."""

    def __init__(self, dim: int, hidden: int):
        super().__init__()
        self.fc1 = nn.Linear(dim, 2 * hidden)
        self.dwconv = nn.Conv2d(2 * hidden, 2 * hidden, 3, padding=1, groups=2 * hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x_BHWC: torch.Tensor) -> torch.Tensor:
        """(B, H, W, C) to the same shape."""
        both = self.dwconv(self.fc1(x_BHWC).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        gate, value = both.chunk(2, dim=-1)
        return add_branch(self.fc2, F.gelu(gate) * value)


def depthwise_feed_forward(
    x_BHWC: torch.Tensor, expand: nn.Linear, depthwise: nn.Conv2d, reduce: nn.Linear
) -> torch.Tensor:
    """Expand, GELU, depth-wise convolution, GELU, reduce: the feed-forward network of Uformer and EDT.

    It stays channels-last throughout: the convolution gets a view, and no memory is moved for it.
    """
    hidden = F.gelu(expand(x_BHWC)).permute(0, 3, 1, 2)
    return add_branch(reduce, F.gelu(depthwise(hidden)).permute(0, 2, 3, 1))


FEED_FORWARDS = {"mlp": FeedForward, "depthwise": DepthwiseFeedForward, "gated": GatedFeedForward}
