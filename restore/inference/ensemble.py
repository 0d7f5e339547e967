"""Self-ensemble: the mean of what a network makes of an image's eight flips and rotations (EDSR, Lim et al. 2017)."""

from __future__ import annotations

from collections.abc import Callable

import torch

__all__ = ["self_ensemble_x8"]


def self_ensemble_x8(network: Callable[[torch.Tensor], torch.Tensor], x_BCHW: torch.Tensor) -> torch.Tensor:
    """Mean of `network` over the dihedral group of the square, each answer turned back; float32.

    One transformed copy is alive at a time, so it takes no more memory than one forward pass and one output.
    """
    total: torch.Tensor | None = None
    for transposed in (False, True):
        for flipped in ([], [-2], [-1], [-2, -1]):
            x = x_BCHW.transpose(-2, -1) if transposed else x_BCHW
            y = network(x.flip(flipped)).float().flip(flipped)
            y = y.transpose(-2, -1) if transposed else y
            total = y.clone() if total is None else total.add_(y)
    assert total is not None
    return total.div_(8)
