"""The contract of a mixer: a map comes in, a map of the same shape goes out.

    @MIXERS.add("my_mixer")
    class MyMixer(Mixer):
        def __init__(self, dim: int, kernel_size: int = 7):
            super().__init__(dim, halo_px=kernel_size // 2)
            ...
        def mix(self, x_BHWC): ...      # leaves its input as it is
        def macs(self, height, width): ...

`dim` is an argument of every mixer and is given by the block; all others come from the option file and have defaults.
A mixer knows nothing of norms, residual sums or the feed-forward half: these are the block's. The shape of what `mix`
returns is checked; `tests/layers/test_mixers.py` holds every registered mixer to the rest of this contract: declared
sizes, declared reach, cost, gradients, precision.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod

import torch
from torch import nn

from restore.layers.arguments import require_positive

__all__ = ["Mixer"]


class Mixer(nn.Module, ABC):
    """Base of all mixers. A subclass writes `mix` and `macs`.

    Args:
        dim: channels of the map.
        size_multiple: height and width of the map are multiples of this; the network pads its input accordingly.
        halo_px: how far information travels along the map in one application; None when it travels everywhere.

    Raises:
        TypeError: a subclass whose constructor does not take `dim`, when it is defined.
        ValueError: a number that is not above zero (`halo_px`: below zero).
    """

    def __init_subclass__(cls, **options):
        super().__init_subclass__(**options)
        if "dim" not in inspect.signature(cls.__init__).parameters:
            raise TypeError(f"{cls.__name__}.__init__ does not take dim, the channels of the map: add `dim: int`")

    def __init__(self, dim: int, *, size_multiple: int = 1, halo_px: int | None = 0):
        super().__init__()
        require_positive(dim=dim, size_multiple=size_multiple)
        if halo_px is not None and halo_px < 0:
            raise ValueError(f"halo_px is {halo_px}: 0 is for no neighbour, None for the whole map")
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
        mixed = self.mix(x_BHWC)
        found = tuple(mixed.shape) if isinstance(mixed, torch.Tensor) else type(mixed).__name__
        # what is too small would be spread over the map by the residual sum, and nobody would know
        assert found == tuple(x_BHWC.shape), f"{type(self).__name__}.mix made {found} of a map {tuple(x_BHWC.shape)}"
        return mixed

    @abstractmethod
    def mix(self, x_BHWC: torch.Tensor) -> torch.Tensor:
        """What `forward` does with a map of a proper size."""

    @abstractmethod
    def macs(self, height: int, width: int) -> int:
        """Multiply-accumulate operations of the products and convolutions for one map of this size."""
