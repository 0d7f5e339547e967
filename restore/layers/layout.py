"""Whether the feature maps of a network keep their channels innermost."""

from __future__ import annotations

import torch
from torch import nn

__all__ = ["lay_out", "layout_of"]


def lay_out(network: nn.Module, device: torch.device, wanted: bool | None = None) -> bool:
    """Give the weights of convolutions the layout that makes maps channels-last; returns whether that was done.

    What an option says counts, or, where it leaves the choice, what is fast: on the processor, convolutions on
    channels-last maps need no reordering of their inputs, outputs and gradients, so a network most of whose parameters
    are in convolutions gains; a transformer does not.
    """
    if wanted is None:
        sizes = [m.weight.numel() for m in network.modules() if isinstance(m, nn.Conv2d) and max(m.kernel_size) > 1]
        wanted = device.type == "cpu" and 2 * sum(sizes) > sum(parameter.numel() for parameter in network.parameters())
    if wanted:
        nn.utils.convert_conv2d_weight_memory_format(network, torch.channels_last)
    return wanted


def layout_of(x_BCHW: torch.Tensor) -> torch.memory_format:
    """`torch.channels_last` where the channels of maps are innermost, and `torch.contiguous_format` otherwise."""
    is_last = x_BCHW.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if is_last and not x_BCHW.is_contiguous() else torch.contiguous_format
