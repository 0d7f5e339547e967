"""Whether the feature maps of a network keep their channels innermost while it is trained."""

from __future__ import annotations

import torch
from torch import nn

__all__ = ["channels_last"]


def channels_last(network: nn.Module, device: torch.device, wanted: bool | None = None) -> bool:
    """What an option says, or, where it leaves the choice, what is fast.

    On the processor, convolutions on channels-last maps need no reordering of their inputs, outputs and gradients, so
    a network most of whose parameters are in convolutions gains; a transformer does not.
    """
    if wanted is not None:
        return wanted
    sizes = [m.weight.numel() for m in network.modules() if isinstance(m, nn.Conv2d) and max(m.kernel_size) > 1]
    return device.type == "cpu" and 2 * sum(sizes) > sum(parameter.numel() for parameter in network.parameters())
