"""Graph convolutions: what a position makes of itself and of its neighbours.

    mr      max-relative: the largest difference from any neighbour (Li et al. 2019, arXiv 1904.03751)
    edge    EdgeConv: the largest of what is made of every pair (Wang et al. 2018, arXiv 1801.07829)
    sage    GraphSAGE with max pooling (Hamilton et al. 2017, arXiv 1706.02216)
    gin     the sum of the neighbours and of the position itself (Xu et al. 2018, arXiv 1810.00826)

All as ViG has them (Han et al. 2022, arXiv 2206.00272), with four groups of channels; official code:
github.com/huawei-noah/Efficient-AI-Backbones (Apache-2.0). Checked against the official code.

Shape legend: N positions, k neighbours of each, C channels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import nn

from restore.layers.activations import Activation, activation_layer
from restore.layers.exportable import unflattened

__all__ = ["CONVOLUTIONS", "GraphConvolution", "GraphNorm", "grouped_layers"]

GraphConvolution = Literal["mr", "edge", "sage", "gin"]
GraphNorm = Literal["batch", "instance", "none"]

_GROUPS = 4
_NORMS: dict[str, Callable[[int], nn.Module]] = {"batch": nn.BatchNorm1d, "instance": nn.InstanceNorm1d}


def grouped_layers(
    conv: GraphConvolution, dim: int, activation: Activation, norm: GraphNorm, bias: bool
) -> dict[str, nn.Sequential]:
    """The layers of a graph convolution from C to 2 C channels, by their published names.

    Raises:
        ValueError: channels that the groups do not divide.
    """
    widths = {"sage": {"nn1": (dim, dim), "nn2": (2 * dim, 2 * dim)}, "gin": {"nn": (dim, 2 * dim)}}
    found = {}
    for name, (before, after) in widths.get(conv, {"nn": (2 * dim, 2 * dim)}).items():
        if before % _GROUPS:
            raise ValueError(f"a graph convolution '{conv}' takes a multiple of {_GROUPS} channels, given {dim}")
        layers: list[nn.Module] = [nn.Conv1d(before, after, 1, groups=_GROUPS, bias=bias)]
        if norm != "none":
            layers.append(_NORMS[norm](after))
        found[name] = nn.Sequential(*layers, activation_layer(activation))
    return found


def _applied(layers: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """(B, ..., C) to (B, ..., C')."""
    found: torch.Tensor = layers(x.flatten(1, -2).transpose(1, 2)).transpose(1, 2)
    return found if x.ndim == 3 else unflattened(found, 1, x.shape[1:-1])


def _max_relative(mixer: nn.Module, x_BNC: torch.Tensor, neighbours_BNkC: torch.Tensor) -> torch.Tensor:
    differences_BNC = neighbours_BNkC.amax(dim=2) - x_BNC
    return _applied(mixer.get_submodule("nn"), torch.stack([x_BNC, differences_BNC], dim=-1).flatten(2))


def _edge(mixer: nn.Module, x_BNC: torch.Tensor, neighbours_BNkC: torch.Tensor) -> torch.Tensor:
    own_BNkC = x_BNC[:, :, None].expand_as(neighbours_BNkC)
    pairs = torch.cat([own_BNkC, neighbours_BNkC - own_BNkC], dim=-1)
    return _applied(mixer.get_submodule("nn"), pairs).amax(dim=2)


def _sage(mixer: nn.Module, x_BNC: torch.Tensor, neighbours_BNkC: torch.Tensor) -> torch.Tensor:
    pooled_BNC = _applied(mixer.get_submodule("nn1"), neighbours_BNkC).amax(dim=2)
    return _applied(mixer.get_submodule("nn2"), torch.cat([x_BNC, pooled_BNC], dim=-1))


def _isomorphism(mixer: nn.Module, x_BNC: torch.Tensor, neighbours_BNkC: torch.Tensor) -> torch.Tensor:
    return _applied(mixer.get_submodule("nn"), (1 + mixer.get_parameter("eps")) * x_BNC + neighbours_BNkC.sum(dim=2))


CONVOLUTIONS: dict[str, Callable[[nn.Module, torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "mr": _max_relative,
    "edge": _edge,
    "sage": _sage,
    "gin": _isomorphism,
}
"""(B, N, 2 C) of a module with the layers, positions (B, N, C) and their neighbours (B, N, k, C)."""
