"""Feed-forward networks: the second slot of a block, channels-last maps in and out."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from restore.layers.precision import add_branch

__all__ = ["depthwise_feed_forward"]


def depthwise_feed_forward(
    x_BHWC: torch.Tensor, expand: nn.Linear, depthwise: nn.Conv2d, reduce: nn.Linear
) -> torch.Tensor:
    """A feed-forward network that looks at the neighbours: expand, GELU, depth-wise convolution, GELU, reduce.

    The feed-forward network of Uformer and EDT. It stays channels-last throughout: the convolution gets a view.
    """
    hidden = F.gelu(expand(x_BHWC)).permute(0, 3, 1, 2)
    return add_branch(reduce, F.gelu(depthwise(hidden)).permute(0, 2, 3, 1))
