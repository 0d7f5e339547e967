"""Feed-forward networks of many narrow layers: linear maps of groups of channels that grow wide, and narrow again.

    group  the unit of DeFINE, Mehta et al. 2020, arXiv 1911.12385, section 3
    light  the unit of DeLighT, Mehta et al. 2020, arXiv 2008.00623, section 3: DExTra and block-wise scaling

Official code: github.com/sacmehta/delight (MIT). Checked against the official code. Here the last layer, which goes to
the residual sum, has no norm and no activation. DeLighT's own feed-forward network, beside its unit, is `{type: mlp,
mlp_ratio: 0.25}`.

A first layer projects the input to half of the channels; what it gives is mixed into the input of every further layer.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from restore.layers.arguments import require_positive
from restore.layers.ffn import FeedForward
from restore.layers.group_linear import GroupLinear
from restore.registry import FEED_FORWARDS

__all__ = ["DefineUnit", "ExpandReduce", "LightUnit", "block_wise_scaling", "define_groups", "light_groups"]

_WHOLE = 8  # widths are multiples of this, as in the official code


class ExpandReduce(FeedForward):
    """Base of both: layers of groups, each with a norm of every group and GELU.

    Args:
        dim: channels of the map.
        widest: channels of the widest layer.
        widths: where each layer but the last stands between the projected width, 0, and the widest, 1.
        groups: of each layer.
        shuffled: whether the channels of groups take turns in what a layer gives.
    """

    def __init__(self, dim: int, widest: float, widths: Sequence[float], groups: Sequence[int], shuffled: bool):
        projected = _multiple(dim / 2, math.lcm(*groups))
        super().__init__(dim, 1.0, inner_dim=2 * projected)
        self.groups, self.shuffled = tuple(groups), shuffled
        outs = [
            _multiple(int(projected + place * (widest - projected)), max(*pair, _WHOLE))
            for place, pair in zip(widths, itertools.pairwise(groups), strict=True)
        ] + [projected]
        ins = [projected, *(out + projected for out in outs[:-1])]
        self.fc1, self.norm1 = nn.Linear(dim, projected), nn.LayerNorm(projected)
        self.layers = nn.ModuleList(GroupLinear(*sizes) for sizes in zip(ins, outs, groups, strict=True))
        self.norms = nn.ModuleList(nn.LayerNorm(out // number) for out, number in zip(outs, groups, strict=True))
        self.fc2 = nn.Linear(self.inner_dim, dim)

    def expand(self, x_BHWC: torch.Tensor) -> torch.Tensor:
        """What the last of the layers gives, beside the projected input."""
        projected = hidden = F.gelu(self.norm1(self.fc1(x_BHWC)))
        for layer, norm, own, following in zip(
            self.layers, self.norms, self.groups, (*self.groups[1:], 1), strict=True
        ):
            parts = layer(hidden).unflatten(-1, (own, -1))
            if self.shuffled:
                parts = parts.transpose(-2, -1).reshape(parts.shape)
            hidden = F.gelu(norm(parts)).flatten(-2)
            pair = (each.unflatten(-1, (following, -1)) for each in (projected, hidden))
            hidden = torch.cat([*pair], dim=-1).flatten(-2)
        return hidden


@FEED_FORWARDS.add("group")
class DefineUnit(ExpandReduce):
    """Layers that grow to the widest; groups halve from layer to layer, so that all channels meet in the end.

    Args:
        dim: channels of the map.
        mlp_ratio: width that the layers grow towards, in channels.
        depth: layers of groups, at least 2.
        max_groups: most groups of a layer, a power of two.
    """

    def __init__(self, dim: int, mlp_ratio: float = 2.0, depth: int = 4, max_groups: int = 4):
        _check(dim, mlp_ratio, depth, max_groups)
        places = [number / (depth - 1) for number in range(1, depth)]
        super().__init__(dim, dim * mlp_ratio, places, define_groups(depth, max_groups), shuffled=False)


@FEED_FORWARDS.add("light")
class LightUnit(ExpandReduce):
    """DExTra: layers that grow and shrink again, more and wider ones towards the output of the network.

    Block b of B has N_b = N_min + (N_max - N_min) b / (B - 1) layers, of which the widest is
    w + (N_max - N_min) b / (N_min (B - 1)) times as wide as the map.

    Args:
        dim: channels of the map.
        mlp_ratio: w.
        min_depth: N_min, layers of groups of the first block, at least 2.
        max_depth: N_max, those of the last.
        max_groups: most groups of a layer, a power of two.
        index: b, place of the block among all of the network, from 0.
        num_blocks: B.
    """

    def __init__(
        self,
        dim: int,
        mlp_ratio: float = 2.0,
        min_depth: int = 4,
        max_depth: int = 8,
        max_groups: int = 4,
        index: int = 0,
        num_blocks: int = 1,
    ):
        _check(dim, mlp_ratio, min_depth, max_groups)
        if max_depth < min_depth:
            raise ValueError(f"max_depth is {max_depth}: it must be at least min_depth {min_depth}")
        depth, ratio = block_wise_scaling(mlp_ratio, min_depth, max_depth, index, num_blocks)
        half = math.ceil(depth / 2)
        rising = [number / max(half - 1, 1) for number in range(half)]
        places = [*rising, *rising[::-1][depth % 2 :]][: depth - 1]
        super().__init__(dim, dim * ratio, places, light_groups(depth, max_groups), shuffled=True)


def block_wise_scaling(ratio: float, min_depth: int, max_depth: int, index: int, num_blocks: int) -> tuple[int, float]:
    """Layers and width of the unit of a block (DeLighT, equations 3 and 4); the number of layers is rounded down."""
    part = index / max(num_blocks - 1, 1)
    more = (max_depth - min_depth) * part
    return int(min_depth + more + 1e-9), ratio + more / min_depth


def define_groups(depth: int, max_groups: int) -> list[int]:
    """1, 2, 4 .. up to the most, and again; from the last layer to the first."""
    cycle = [2**power for power in range(max_groups.bit_length())]
    return [cycle[number % len(cycle)] for number in range(depth)][::-1]


def light_groups(depth: int, max_groups: int) -> list[int]:
    """2, 4 .. up to the most, and back."""
    rising = [min(2 ** (number + 1), max_groups) for number in range(math.ceil(depth / 2))]
    return [*rising, *rising[::-1][depth % 2 :]]


def _check(dim: int, mlp_ratio: float, depth: int, max_groups: int) -> None:
    require_positive(dim=dim, mlp_ratio=mlp_ratio, max_groups=max_groups)
    if depth < 2:
        raise ValueError(f"a unit of {depth} layers: it has at least 2")
    if max_groups & (max_groups - 1):
        raise ValueError(f"max_groups is {max_groups}: it must be a power of two")


def _multiple(width: float, of: int) -> int:
    """The next multiple."""
    return math.ceil(width / of) * of
