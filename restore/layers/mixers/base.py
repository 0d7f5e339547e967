"""The contract of a mixer: a map comes in, a map of the same shape goes out.

    @MIXERS.add("my_mixer")
    class MyMixer(Mixer):
        def __init__(self, dim: int, kernel_size: int = 7):
            super().__init__(dim, halo_px=kernel_size // 2)
            ...
        def mix(self, x_BHWC): ...
        def macs(self, height, width): ...

`dim` is the first argument and is given by the block; all others come from the option file and have defaults. A mixer
knows nothing of norms, residual sums or the feed-forward half: these are the block's. `tests/layers/test_mixers.py`
holds every registered mixer to this contract: shapes, declared sizes, declared reach, cost, gradients, precision.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import nn

__all__ = ["Mixer"]


class Mixer(nn.Module, ABC):
    """Base of all mixers. A subclass writes `mix` and `macs`.

    Args:
        dim: channels of the map.
        size_multiple: height and width of the map are multiples of this; the network pads its input accordingly.
        halo_px: how far information travels along the map in one application; None when it travels everywhere.
    """

    def __init__(self, dim: int, *, size_multiple: int = 1, halo_px: int | None = 0):
        super().__init__()
        self.dim, self.size_multiple, self.halo_px = dim, size_multiple, halo_px

    def forward(self, x_BHWC: torch.Tensor) -> torch.Tensor:
        """Mix the positions of a channels-last map.

        Raises:
            ValueError: the sides of the map are not multiples of `size_multiple`.
        """
        H, W = x_BHWC.shape[1:3]
        if H % self.size_multiple or W % self.size_multiple:
            raise ValueError(
                f"{type(self).__name__} takes maps whose sides are multiples of {self.size_multiple}, given {H} x {W}; "
                "pad the image first"
            )
        return self.mix(x_BHWC)

    @abstractmethod
    def mix(self, x_BHWC: torch.Tensor) -> torch.Tensor:
        """What `forward` does with a map of a proper size."""

    @abstractmethod
    def macs(self, height: int, width: int) -> int:
        """Multiply-accumulate operations of the products and convolutions for one map of this size."""
