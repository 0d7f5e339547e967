"""Token mixers: what stands in the first slot of a block. See `Mixer` for the contract that all of them keep."""

from restore.layers.mixers.base import Mixer

__all__ = ["Mixer"]
