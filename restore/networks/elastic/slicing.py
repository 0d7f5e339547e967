"""Weights of a smaller network cut out of those of a larger one.

AutoFormer, Chen et al. 2021, arXiv 2107.00651, section 3.2, and HAT, Wang et al. 2020, arXiv 2005.14187, section 2.1:
the first channels on every side. Maps that lie side by side in one output, such as queries, keys and values, are cut
each by itself; of a kernel or of a table of relative positions the middle is taken, so every weight keeps its place.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import nn

from restore.layers.branch import Branch
from restore.layers.position_bias import RelativePositionBias

__all__ = ["cut", "stored"]


def stored(module: nn.Module) -> Iterator[tuple[str, nn.Module, torch.Tensor]]:
    """Parameters and saved buffers of a module: the full name, the module that holds it, and itself."""
    for path, holder in module.named_modules():
        for name, tensor in (*holder._parameters.items(), *holder._buffers.items()):
            if tensor is not None and name not in holder._non_persistent_buffers_set:
                yield f"{path}.{name}".lstrip("."), holder, tensor


def cut(large: torch.Tensor, small: torch.Tensor, parent: nn.Module, layer: str, name: str) -> torch.Tensor:
    """What of a tensor belongs to a smaller one, of whose shape it is returned; gradients flow back.

    Args:
        large: of the larger network.
        small: the same tensor of the smaller network, of which only the shape counts.
        parent: the component that holds it (a mixer, a feed-forward network), or any other module.
        layer: where it stands below the component: `qkv`.
        name: what it is called there: `weight`.
    """
    if large.shape == small.shape:
        return large
    if isinstance(parent, RelativePositionBias) and not layer and name == parent.table_name:
        return _middle_of_table(large, small)
    parts = (parent.side_by_side or {}).get(layer, 1) if isinstance(parent, Branch) else 1
    large = large.unflatten(0, (parts, -1))[:, : small.shape[0] // parts].flatten(0, 1)
    for dim in range(1, small.ndim):
        over = large.shape[dim] - small.shape[dim]
        large = large.narrow(dim, over // 2 if dim >= 2 and small.ndim == 4 else 0, small.shape[dim])
    return large


def _middle_of_table(table_Rh: torch.Tensor, small_Rh: torch.Tensor) -> torch.Tensor:
    """The relative positions within smaller square windows, and the first heads."""
    side, wanted = math.isqrt(table_Rh.shape[0]), math.isqrt(small_Rh.shape[0])
    assert (side**2, wanted**2) == (table_Rh.shape[0], small_Rh.shape[0]), "windows are square"
    start = (side - wanted) // 2
    middle = table_Rh.view(side, side, -1)[start : start + wanted, start : start + wanted, : small_Rh.shape[1]]
    return middle.flatten(0, 1)
