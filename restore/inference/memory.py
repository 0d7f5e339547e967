"""How much memory there is, how much a network takes for each pixel, and what running out of it looks like."""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from torch import nn

from restore.allocator import kept_bytes

__all__ = [
    "bytes_per_pixel",
    "empty_pixels",
    "free_bytes",
    "is_out_of_memory",
    "peak_resident_bytes",
    "release_cached",
    "resident_bytes",
]

UNKNOWN_BYTES = 2 << 30  # of a device that does not tell
_STATUS = Path("/proc/self/status")
ALIVE_AT_ONCE = 4
OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "cannot allocate memory", "not enough memory")


def free_bytes(device: torch.device) -> int:
    """Memory that this process could still take on `device`."""
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory()
    if device.type != "cpu":
        own = torch.get_device_module(device)
        if not hasattr(own, "mem_get_info"):
            return UNKNOWN_BYTES
        free: int = own.mem_get_info(device)[0]
        return free + own.memory_reserved(device) - own.memory_allocated(device)
    container = _cgroup_bytes()
    machine: int = psutil.virtual_memory().available
    return min(machine, machine if container is None else container) + kept_bytes()


def resident_bytes() -> int:
    """Memory that this process holds."""
    held: int = psutil.Process().memory_info().rss
    return held


def peak_resident_bytes() -> int:
    """The most that this process ever held; on Linux, since the mark was reset."""
    with contextlib.suppress(OSError, StopIteration):  # Linux, whose mark can be reset
        lines = _STATUS.read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
    windows: int | None = getattr(psutil.Process().memory_info(), "peak_wset", None)
    if windows is not None:
        return windows
    try:
        import resource
    except ImportError:
        return resident_bytes()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def is_out_of_memory(error: BaseException) -> bool:
    """Whether this is an allocation that failed: CUDA's own exception, or torch's and numpy's on the host."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in OUT_OF_MEMORY)


def release_cached(device: torch.device) -> None:
    """Give memory that torch keeps for later back to the device."""
    if device.type != "cpu":
        torch.get_device_module(device).empty_cache()


def bytes_per_pixel(network: nn.Module, forward: Callable[[torch.Tensor], object], probe_BCHW: torch.Tensor) -> float:
    """Memory that `network` takes for each input pixel at its peak, from one run of `forward` on a small probe.

    CUDA and its like keep count of it. Elsewhere it is taken to be `ALIVE_AT_ONCE` times the largest output of any
    module; for SwinIR it was measured to be 2.5 to 3.6 times.
    """
    device, pixels = probe_BCHW.device, probe_BCHW.shape[0] * probe_BCHW.shape[-2] * probe_BCHW.shape[-1]
    own: Any = None if device.type == "cpu" else torch.get_device_module(device)
    if hasattr(own, "max_memory_allocated"):
        before = own.memory_allocated(device)
        own.reset_peak_memory_stats(device)
        forward(probe_BCHW)
        peak: int = own.max_memory_allocated(device)
        return max(peak - before, 1) / pixels
    largest = probe_BCHW.nbytes

    def compare(module: nn.Module, inputs: object, output: object) -> None:
        nonlocal largest
        if isinstance(output, torch.Tensor):
            largest = max(largest, output.nbytes)

    hooks = [module.register_forward_hook(compare) for module in network.modules()]
    try:
        forward(probe_BCHW)
    finally:
        for hook in hooks:
            hook.remove()
    return ALIVE_AT_ONCE * largest / pixels


def empty_pixels(shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
    """An array for a result: in memory, or in an unnamed temporary file if it would take over half of what is free."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    if size <= free_bytes(torch.device("cpu")) // 2:
        return np.empty(shape, dtype)
    with tempfile.TemporaryFile() as file:
        return np.memmap(file, dtype=dtype, mode="w+", shape=shape)


def _cgroup_bytes(group: Path = Path("/sys/fs/cgroup")) -> int | None:
    """What a container may still take (control groups version 2, then 1); cached files do not count as taken."""
    for folder, limit, used, cached in (
        (group, "memory.max", "memory.current", "inactive_file"),
        (group / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        try:
            taken = int((folder / used).read_text())
            stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
            return max(int((folder / limit).read_text()) - taken + int(stat.get(cached, 0)), 0)
        except (OSError, ValueError):  # no such group, or "max": no limit
            continue
    return None
