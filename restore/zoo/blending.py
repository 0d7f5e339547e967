"""Weights between those of two networks.

Interpolating a network trained for PSNR and one trained for sharpness gives every degree between them, without training
and without artefacts of the second (Wang et al. 2018, ESRGAN, arXiv:1809.00219, section 3.4); so does interpolating
denoisers of two levels. It is meant for networks of which one was fine-tuned from the other.
"""

from __future__ import annotations

from pathlib import Path

import torch

from restore.errors import OptionsError
from restore.networks.base import Network
from restore.zoo.load import load_network

__all__ = ["blend"]

MOST_NAMED = 3


def blend(first: str | Path, second: str | Path, alpha: float = 0.5) -> Network:
    """The network whose weights are (1 - alpha) of the first and alpha of the second, in evaluation mode.

    Args:
        first: a model's name or weights file.
        second: another one of the same network.
        alpha: 0 for the first, 1 for the second.

    Raises:
        OptionsError: alpha is not between 0 and 1, or the networks are not the same.
        CheckpointError: as `load_network`.
    """
    if not 0 <= alpha <= 1:
        raise OptionsError(f"alpha is {alpha:g}: must be between 0 and 1.")
    network, other = load_network(first), load_network(second)
    ours, theirs = network.state_dict(), other.state_dict()
    differing = [key for key in [*ours, *theirs] if key not in ours or key not in theirs]
    differing += [key for key in ours if key in theirs and ours[key].shape != theirs[key].shape]
    if type(network) is not type(other) or differing:
        shown = ", ".join(list(dict.fromkeys(differing))[:MOST_NAMED])
        named = f" They differ in {len(set(differing))} tensors: {shown}, ..." if differing else ""
        kinds = f"'{first}' is {type(network).__name__}, '{second}' is {type(other).__name__}"
        raise OptionsError(f"only weights of the same network can be blended: {kinds}.{named}")
    with torch.no_grad():
        for key, value in ours.items():
            if value.is_floating_point():
                value.copy_(torch.lerp(value.double(), theirs[key].double(), alpha))
    return network
