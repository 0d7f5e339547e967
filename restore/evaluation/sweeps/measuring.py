"""What a network costs at small sizes: counted, and measured on this machine."""

from __future__ import annotations

import contextlib
import copy
import os
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from restore.analysis.cost import count_parameters, image_cost
from restore.evaluation.gauges import Gauge
from restore.inference.memory import free_bytes, is_out_of_memory

__all__ = ["SIDES", "bounded_memory", "measured"]

SIDES = (64, 128)
"""Sides of the images, in pixels of the input."""

_WARM_UP, _TIMES = 2, 5
_STATUS = Path("/proc/self/statm")


def measured(network: nn.Module, channels: int, device: torch.device) -> dict[str, Any]:
    """Parameters; and by side of the image: multiply-adds, the median of milliseconds, and the most MiB.

    Where the memory does not suffice, the last two are None.
    """
    nowhere = copy.deepcopy(network).to("meta")
    network = network.to(device).eval()
    found: dict[str, Any] = {"parameters": count_parameters(network)}
    for side in SIDES:
        macs = image_cost(nowhere, channels=channels, height=side).macs
        found[str(side)] = {"macs": macs, **_run(network, channels, side, device)}
    return found


def _run(network: nn.Module, channels: int, side: int, device: torch.device) -> dict[str, float | None]:
    gauge, times = Gauge(device), []
    try:
        with torch.inference_mode(), bounded_memory(device):
            image = torch.rand(1, channels, side, side, device=device)
            for _ in range(_WARM_UP + _TIMES):
                gauge(network, image)
                times.append(gauge.milliseconds)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return {"ms": None, "mib": None}
    return {"ms": statistics.median(times[_WARM_UP:]), "mib": gauge.peak_mib}


@contextlib.contextmanager
def bounded_memory(device: torch.device) -> Iterator[None]:
    """On Linux's processors, more than half of the memory that is free is an error, not the end of the process."""
    if device.type != "cpu" or not _STATUS.exists():
        yield
        return
    import resource

    before = resource.getrlimit(resource.RLIMIT_AS)
    taken = int(_STATUS.read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    most = taken + free_bytes(device) // 2
    resource.setrlimit(resource.RLIMIT_AS, (most if before[0] < 0 else min(most, before[0]), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
