"""What a network costs at small sizes: counted, and measured on this machine."""

from __future__ import annotations

import statistics
from typing import Any

import torch
from torch import nn

from restore.analysis.cost import image_cost
from restore.evaluation.gauges import Gauge

__all__ = ["SIDES", "measured"]

SIDES = (64, 128)
"""Sides of the images, in pixels of the input."""

_WARM_UP, _TIMES = 2, 5


def measured(network: nn.Module, channels: int, device: torch.device) -> dict[str, Any]:
    """Parameters; and by side of the image: multiply-adds, the median of milliseconds, and the most MiB."""
    network = network.to(device).eval()
    found: dict[str, Any] = {}
    for side in SIDES:
        cost = image_cost(network, channels=channels, height=side)
        image = torch.rand(1, channels, side, side, device=device)
        gauge, times = Gauge(device), []
        with torch.inference_mode():
            for _ in range(_WARM_UP + _TIMES):
                gauge(network, image)
                times.append(gauge.milliseconds)
        found["parameters"] = cost.parameters
        found[str(side)] = {"macs": cost.macs, "ms": statistics.median(times[_WARM_UP:]), "mib": gauge.peak_mib}
    return found
