"""Mixers from option blocks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from restore.layers.mixers.base import Mixer
from restore.registry import MIXERS

__all__ = ["build_mixer"]


def build_mixer(block: str | Mapping[str, Any], dim: int, *, path: str = "mixer") -> Mixer:
    """A mixer of `dim` channels from a name or a `{type: NAME, argument: value}` block.

    Args:
        path: where the block stands in the option file, for messages.

    Raises:
        OptionsError: no such mixer, or options that it does not have or cannot work with.
        TypeError: what is registered under the name is not a mixer.
    """
    mixer = MIXERS.build(block, path=path, dim=dim)
    if not isinstance(mixer, Mixer):
        raise TypeError(f"{type(mixer).__name__} is registered as a mixer but does not derive from Mixer")
    if "halo_px" not in vars(mixer):
        raise TypeError(f"{type(mixer).__name__}.__init__ does not call super().__init__(dim, halo_px=...)")
    return mixer
