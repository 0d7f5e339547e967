"""How much memory there is, how much a network takes for each pixel, and what running out of it looks like."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from restore.allocator import kept_bytes

__all__ = ["bytes_per_pixel", "empty_pixels", "free_bytes", "is_out_of_memory", "release_cached"]

GIB = 1 << 30
ALIVE_AT_ONCE = 4
OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "cannot allocate memory", "not enough memory")


def free_bytes(device: torch.device) -> int:
    """Memory that this process could still take on `device`."""
    if device.type == "cuda":
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + cached
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory()
    limits = [_meminfo_bytes(), _cgroup_bytes()]
    return min((limit for limit in limits if limit is not None), default=2 * GIB) + kept_bytes()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether this is an allocation that failed: CUDA's own exception, or torch's and numpy's on the host."""
    if isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in OUT_OF_MEMORY)


def release_cached(device: torch.device) -> None:
    """Give memory that torch keeps for later back to the device."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


def bytes_per_pixel(network: nn.Module, forward: Callable[[torch.Tensor], object], probe_BCHW: torch.Tensor) -> float:
    """Memory that `network` takes for each input pixel at its peak, from one run of `forward` on a small probe.

    CUDA keeps count of it. Elsewhere it is taken to be `ALIVE_AT_ONCE` times the largest output of any module; for
    SwinIR it was measured to be 2.5 to 3.6 times.
    """
    device, pixels = probe_BCHW.device, probe_BCHW.shape[0] * probe_BCHW.shape[-2] * probe_BCHW.shape[-1]
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        forward(probe_BCHW)
        return max(torch.cuda.max_memory_allocated(device) - before, 1) / pixels
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


def _meminfo_bytes(meminfo: Path = Path("/proc/meminfo")) -> int | None:
    if meminfo.exists():
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    return None


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
