"""The parameters of a network of a space, without building it."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from restore.layers.block import MetaFormerBlock
from restore.layers.build import build_feed_forward
from restore.networks.elastic.space import Choice, Space
from restore.registry import NETWORKS

__all__ = ["num_parameters"]


def num_parameters(space: Space, choice: Choice) -> int:
    """Parameters of the network that a choice stands for: what stands around blocks, and each block.

    The parts are counted once for each form of them, so this is a sum of a few known numbers.
    """
    block, values = space.block(choice), space.values(choice)
    dim, depths = block["embed_dim"], block["depths"]
    rest = {name: value for name, value in space.network.items() if name not in _CHOSEN}
    total = _around(json.dumps(rest), dim, len(depths))
    first, last = values["mlp_ratio.0"], values["mlp_ratio.1"]
    kinds = json.dumps({name: rest[name] for name in ("norm", "placement", "layer_scale") if name in rest})
    number = 0
    for depth in depths:
        for index in range(depth):
            ratio = first + (last - first) * number / max(sum(depths) - 1, 1)
            mixer, feed_forward = json.dumps(block["mixers"][index]), json.dumps(block["feed_forward"])
            total += _of_block(mixer, feed_forward, dim, ratio, kinds)
            number += 1
    return total


_CHOSEN = ("embed_dim", "depths", "mixers", "feed_forward", "mlp_ratio")


@functools.lru_cache(maxsize=4096)
def _of_block(mixer: str, feed_forward: str, dim: int, ratio: float, kinds: str) -> int:
    """Parameters of a block."""
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        second = build_feed_forward(json.loads(feed_forward), dim, mlp_ratio=ratio)
        return _count(MetaFormerBlock(dim, json.loads(mixer), second, **_kinds(json.loads(kinds))))


@functools.lru_cache(maxsize=256)
def _around(rest: str, dim: int, num_stages: int) -> int:
    """Parameters of everything but the blocks."""
    arguments = json.loads(rest)
    emptied = {"embed_dim": dim, "depths": [1] * num_stages, "mixers": "identity", "feed_forward": "none"}
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        whole = NETWORKS.build({**arguments, **emptied})
        return _count(whole) - sum(_count(block) for stage in whole.stages for block in stage.blocks)


def _kinds(given: Mapping[str, Any]) -> dict[str, Any]:
    """The norm and its placement as a block takes them."""
    kinds = dict(given)
    if kinds.get("norm") in ("pre", "post", "res-post"):
        kinds["placement"], kinds["norm"] = kinds["norm"], "layer"
    return kinds


def _count(module: nn.Module) -> int:
    return sum(each.numel() for each in module.parameters())
