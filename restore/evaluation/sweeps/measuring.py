"""What a network costs at small sizes: counted, and measured on this machine."""

from __future__ import annotations

import contextlib
import copy
import multiprocessing
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import psutil
import torch
from torch import nn

from restore.analysis.cost import cost_of, count_parameters
from restore.evaluation.gauges import Gauge
from restore.inference.memory import free_bytes, is_out_of_memory

__all__ = ["SIDES", "bounded_memory", "is_clocked", "measured"]

SIDES = (64, 128)
"""Sides of the images, in pixels of the input."""

_WARM_UP, _TIMES = 2, 5
_ENOUGH_MS = 5000.0
"""Runs that take longer than this together are not repeated."""
_NOTHING: dict[str, float | None] = {"ms": None, "mib": None}


def measured(network: nn.Module, channels: int, device: torch.device, *, clock: bool = True) -> dict[str, Any]:
    """Parameters; and by side of the image: multiply-adds, the median of milliseconds, and the most MiB.

    The network runs in a process of its own, whose memory is its alone. Where memory does not suffice, the last two are
    None. Without `clock` it does not run, and they are not there.
    """
    nowhere = copy.deepcopy(network).to("meta")
    found: dict[str, Any] = {"parameters": count_parameters(network)}
    runs: list[dict[str, float | None]] = [{} for _ in SIDES]
    if clock:
        arguments = (network.cpu().eval(), channels, SIDES, str(device), torch.get_num_threads())
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            try:
                runs = pool.submit(_runs, *arguments).result()
            except BrokenProcessPool:  # the system ended it
                runs = [dict(_NOTHING) for _ in SIDES]
    for side, run in zip(SIDES, runs, strict=True):
        image = torch.rand(1, channels, side, side, device="meta")
        found[str(side)] = {"macs": cost_of(nowhere, image).macs, **run}
    return found


def is_clocked(costs: Mapping[str, Any]) -> bool:
    """Whether what `measured` gave has time and memory."""
    return all("ms" in costs[str(side)] for side in SIDES)


def _runs(
    network: nn.Module, channels: int, sides: Sequence[int], device_name: str, num_threads: int
) -> list[dict[str, float | None]]:
    """What `measured` finds for each side, the smallest first."""
    torch.set_num_threads(num_threads)
    device, runs = torch.device(device_name), []
    network = network.to(device)
    gauge = Gauge(device)
    for side in sides:
        times = []
        try:
            with torch.inference_mode(), bounded_memory(device):
                image = torch.rand(1, channels, side, side, device=device)
                for _ in range(_WARM_UP + _TIMES):
                    gauge(network, image)
                    times.append(gauge.milliseconds)
                    if sum(times) > _ENOUGH_MS:
                        break
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            runs.append(dict(_NOTHING))
        else:
            runs.append({"ms": statistics.median(times[_WARM_UP:] or times), "mib": gauge.peak_mib})
    return runs


@contextlib.contextmanager
def bounded_memory(device: torch.device) -> Iterator[None]:
    """On Linux's processors, more than half of the memory that is free is an error, not the end of the process."""
    if device.type != "cpu" or sys.platform != "linux":
        yield
        return
    import resource

    before = resource.getrlimit(resource.RLIMIT_AS)
    taken = psutil.Process().memory_info().vms
    most = taken + free_bytes(device) // 2
    resource.setrlimit(resource.RLIMIT_AS, (most if before[0] < 0 else min(most, before[0]), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
