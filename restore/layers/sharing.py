"""Blocks that share their weights: MiniViT, Zhang et al. 2022, arXiv 2204.07154, github.com/microsoft/Cream (MIT).

Consecutive blocks have one set of attention and feed-forward weights, and each its own norms. (MiniViT also mixes heads
differently in each block, and distils.) The weights are parameters of all of these blocks: they count and learn once,
and the state dict has the keys of a network that shares nothing, so files load wherever such a network's do.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from restore.layers.arguments import require_positive

__all__ = ["share_weights"]


def share_weights(blocks: Sequence[nn.Module], share_blocks: int, parts: Sequence[str]) -> None:
    """Let every `share_blocks` consecutive blocks have the weights of the first of them.

    Args:
        blocks: of one stage, in order; changed in place.
        share_blocks: how many share; 1 for none. The last blocks may be fewer.
        parts: names of the modules of a block whose weights are shared; a block may lack some.

    Raises:
        ValueError: two blocks have parts of different weights.
    """
    require_positive(share_blocks=share_blocks)
    for number, block in enumerate(blocks):
        first = number - number % share_blocks
        for part in parts if number != first else ():
            one, other = getattr(blocks[first], part, None), getattr(block, part, None)
            if one is not None or other is not None:
                _tie(one, other, f"{part} of blocks {first} and {number}")


def _tie(one: nn.Module | None, other: nn.Module | None, what: str) -> None:
    """Give the second module the parameters of the first."""
    of_one, of_other = (dict(each.named_parameters()) if each is not None else {} for each in (one, other))
    shapes = [{name: each.shape for name, each in parameters.items()} for parameters in (of_one, of_other)]
    if shapes[0] != shapes[1]:
        differing = [name for name in {**of_one, **of_other} if shapes[0].get(name) != shapes[1].get(name)]
        raise ValueError(f"share_blocks: {what} cannot share their weights, as {differing[0]} differs")
    assert other is not None
    for name, parameter in of_one.items():
        path, _, leaf = name.rpartition(".")
        other.get_submodule(path)._parameters[leaf] = parameter
