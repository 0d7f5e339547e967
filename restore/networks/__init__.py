"""Restoration networks: (B, C, H, W) in [0, 1], any H x W of at least one pixel, to (B, C, H*scale, W*scale)."""

from restore.networks.base import Network
from restore.networks.spec import ImageSpec

__all__ = ["ImageSpec", "Network"]
