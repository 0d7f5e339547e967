"""The contract of a mixer: a map comes in, a map of the same shape goes out.

    @MIXERS.add("my_mixer")
    class MyMixer(Mixer):
        def __init__(self, dim: int, kernel_size: int = 7): ...
        def forward(self, x_BHWC): ...
        def macs(self, height, width): ...

`dim` is the first argument and is given by the block; all others come from the option file and have defaults. A mixer
knows nothing of norms, residual sums or the feed-forward half: these are the block's. `tests/layers/test_mixers.py`
holds every registered mixer to this contract.
"""

from __future__ import annotations

import torch
from torch import nn

__all__ = ["Mixer"]


class Mixer(nn.Module):
    """Base of all mixers.

    Attributes:
        size_multiple: height and width of the map must be multiples of this; the network pads its input accordingly.
        halo_px: how far information travels along the map in one application; None when it travels everywhere.
    """

    size_multiple: int = 1
    halo_px: int | None = 0

    def forward(self, x_BHWC: torch.Tensor) -> torch.Tensor:
        """Mix the positions of a channels-last map."""
        raise NotImplementedError

    def macs(self, height: int, width: int) -> int:
        """Multiply-accumulate operations for one map of this size."""
        raise NotImplementedError
