"""The block with slots: a mixer of positions, a feed-forward network, and how each is joined to the stream.

The blocks of SwinIR, Uformer and EDT are this block with other key names (the tests show it); see MetaFormer,
Yu et al. 2022, arXiv 2111.11418.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from restore.layers.mixers.base import Mixer
from restore.layers.residual import DropPath, LayerScale

__all__ = ["MetaFormerBlock", "Placement"]

Placement = Literal["pre", "post", "res-post"]


class MetaFormerBlock(nn.Module):
    """Two residual branches on a channels-last map.

    Args:
        dim: channels.
        mixer: the first branch.
        feed_forward: the second branch; None leaves it out.
        norm: where the LayerNorm of a branch f stands: "pre" x + f(norm(x)), "post" norm(x + f(x)), "res-post"
            x + norm(f(x)).
        layer_scale: first value of a learned factor for each channel of a branch; None leaves it out.
        drop_path: probability that a sample's branch is dropped, in training.
    """

    def __init__(
        self,
        dim: int,
        mixer: Mixer,
        feed_forward: nn.Module | None,
        *,
        norm: Placement = "pre",
        layer_scale: float | None = None,
        drop_path: float = 0.0,
    ):
        super().__init__()
        self.placement = norm
        self.drop_path = DropPath(drop_path)
        self.norm1, self.mixer = nn.LayerNorm(dim), mixer
        self.scale1 = nn.Identity() if layer_scale is None else LayerScale(dim, layer_scale)
        self.norm2 = nn.LayerNorm(dim) if feed_forward is not None else None
        self.ffn = feed_forward
        self.scale2 = nn.Identity() if layer_scale is None or feed_forward is None else LayerScale(dim, layer_scale)

    def forward(self, x_BHWC: torch.Tensor) -> torch.Tensor:
        """(B, H, W, C) to the same shape; H and W are multiples of the mixer's `size_multiple`."""
        x_BHWC = self._join(x_BHWC, self.mixer, self.norm1, self.scale1)
        return x_BHWC if self.ffn is None else self._join(x_BHWC, self.ffn, self.norm2, self.scale2)

    def _join(self, x: torch.Tensor, branch: nn.Module, norm: nn.Module, scale: nn.Module) -> torch.Tensor:
        if self.placement == "pre":
            return x + self.drop_path(scale(branch(norm(x))))
        if self.placement == "post":
            return norm(x + self.drop_path(scale(branch(x))))
        return x + self.drop_path(scale(norm(branch(x))))
