"""Token mixers: what stands in the first slot of a block. See `Mixer` for the contract that all of them keep.

mixer = build_mixer({"type": "window", "window_size": 8}, 60)
mixed_BHWC = mixer(x_BHWC)
"""

from restore.layers.mixers.base import Mixer, TokenMixer
from restore.layers.mixers.build import build_mixer

__all__ = ["Mixer", "TokenMixer", "build_mixer"]
