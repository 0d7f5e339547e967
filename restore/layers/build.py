"""Norms, feed-forward networks, positions and placements from names or `{type: NAME, argument: value}` blocks.

All raise OptionsError for names that are not registered and options that a component does not have or cannot work with;
`path` says where the block stands in the option file. Mixers have `restore.layers.mixers.build_mixer`.
"""

from __future__ import annotations

import inspect
from typing import Any

from torch import nn

from restore.layers.ffn import FeedForward
from restore.layers.placements import Placement
from restore.registry import FEED_FORWARDS, NORMS, PLACEMENTS, POSITIONS, OptionBlock

__all__ = ["build_feed_forward", "build_norm", "build_placement", "build_position"]


def build_norm(option: OptionBlock, dim: int, *, path: str = "norm") -> nn.Module:
    """A norm of `dim` channels, channels last."""
    return NORMS.build(option, path=path, dim=dim)


def build_feed_forward(
    option: OptionBlock,
    dim: int,
    *,
    mlp_ratio: float | None = None,
    index: int = 0,
    num_blocks: int = 1,
    path: str = "feed_forward",
) -> FeedForward | None:
    """A feed-forward network of `dim` channels; None for "none".

    Args:
        mlp_ratio: hidden width in channels, where the block does not say it; None for the default of the component.
        index: place of its block among all of the network, from 0, for those that differ with depth.
        num_blocks: how many blocks there are.
    """
    block: dict[str, Any] = {"type": option} if isinstance(option, str) else dict(option)
    component = FEED_FORWARDS.get(block.get("type"), f"{path}.type")
    wanted = inspect.signature(component).parameters
    if mlp_ratio is not None and "mlp_ratio" in wanted:
        block.setdefault("mlp_ratio", mlp_ratio)
    place = {"index": index, "num_blocks": num_blocks} if "num_blocks" in wanted else {}
    return FEED_FORWARDS.build(block, path=path, dim=dim, **place)


def build_position(option: OptionBlock, dim: int, *, path: str = "position") -> nn.Module:
    """What adds positions to a channels-last map of `dim` channels."""
    return POSITIONS.build(option, path=path, dim=dim)


def build_placement(option: OptionBlock, index: int = 0, num_blocks: int = 1, *, path: str = "placement") -> Placement:
    """The placement of block `index` of `num_blocks`."""
    return PLACEMENTS.build(option, path=path, index=index, num_blocks=num_blocks)
