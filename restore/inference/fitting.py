"""What fits: the largest tile by the free memory, and how many tiles or images go through a network together."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable

import torch
from torch import nn

from restore.inference.memory import bytes_per_pixel, free_bytes
from restore.layers.modes import evaluating
from restore.networks.spec import ImageSpec

__all__ = ["Fitting", "num_together", "probed_bytes"]

LARGEST_TILE_PX = {"mps": 512, "cpu": 384}  # beyond it a tile gains nothing but an overlap saved
BATCH_PIXELS = {"mps": 256 * 256, "cpu": 128 * 128}  # enough work to keep the device busy
OF_OTHERS_PX = 1024  # the largest tile, and the side of a batch, of CUDA and its like
SMALLEST_TILE_PX = 64
MEMORY_SHARE = 0.5  # of what is free, for a guess that errs
PROBE_PX = 64
SURELY_FITS_PX = 256 * 256  # not worth a measurement
logger = logging.getLogger(__name__)


class Fitting:
    """Sizes of tiles for one network on one device.

    Args:
        network: the network.
        spec: what it wants of images.
        device: where it is.
        forward: takes a type of numbers and (B, C, H, W), and runs the network in that arithmetic.
    """

    def __init__(
        self,
        network: nn.Module,
        spec: ImageSpec,
        device: torch.device,
        forward: Callable[[torch.dtype, torch.Tensor], torch.Tensor],
    ):
        self._network, self._spec, self._device, self._forward = network, spec, device, forward
        self._pixel_bytes: dict[torch.dtype, float] = {}

    def tile_px(self, height: int, width: int, planes: int, dtype: torch.dtype) -> int:
        """The largest side of a tile of `planes` images of this size that surely fits into the memory free now."""
        if height * width * planes <= SURELY_FITS_PX:
            return max(height, width)
        fitting = MEMORY_SHARE * free_bytes(self._device) / self.pixel_bytes(dtype) / planes
        multiple = self._spec.size_multiple
        side = max(int(math.sqrt(fitting)) // multiple * multiple, SMALLEST_TILE_PX)
        return min(side, LARGEST_TILE_PX.get(self._device.type, OF_OTHERS_PX))

    def pixel_bytes(self, dtype: torch.dtype) -> float:
        """Memory that the network takes for each input pixel in this arithmetic, measured once on a small image."""
        if self._spec.pixel_bytes:
            return self._spec.pixel_bytes
        if dtype not in self._pixel_bytes:
            with evaluating(self._network):
                self._pixel_bytes[dtype] = probed_bytes(
                    self._network, self._spec, self._device, lambda x_BCHW: self._forward(dtype, x_BCHW)
                )
            logger.debug("the network takes %.0f bytes per pixel", self._pixel_bytes[dtype])
        return self._pixel_bytes[dtype]


def probed_bytes(
    network: nn.Module, spec: ImageSpec, device: torch.device, forward: Callable[[torch.Tensor], object]
) -> float:
    """Memory that `forward` takes for each input pixel, from one small image that the network takes as it is."""
    side = -(-max(PROBE_PX, spec.min_size) // spec.size_multiple) * spec.size_multiple
    return bytes_per_pixel(network, forward, torch.zeros(1, spec.in_channels, side, side, device=device))


def num_together(device: torch.device, pixels: int) -> int:
    """How many images or tiles of this many pixels keep the device busy."""
    return max(1, BATCH_PIXELS.get(device.type, OF_OTHERS_PX**2) // pixels)
