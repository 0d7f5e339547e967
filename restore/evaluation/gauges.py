"""How long one restoration takes and how much memory: the device's own counters on CUDA, the process's elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from restore.inference.memory import peak_resident_bytes, resident_bytes

__all__ = ["Gauge"]

MIB = 1 << 20
_CLEAR = Path("/proc/self/clear_refs")


class Gauge:
    """Runs a function, keeping the time of each call and the largest memory of all of them.

    On CUDA the memory is the most that was allocated on the device, the network's weights included. Elsewhere it is the
    growth of the process over its size when the gauge was made; what the process held before does not count.

    Attributes:
        milliseconds: time of the last call.
        peak_mib: largest memory so far, in MiB.
    """

    def __init__(self, device: torch.device):
        self.device = device
        self.milliseconds = 0.0
        self.peak_mib = 0.0
        self._at_rest_mib = 0.0 if self._on_cuda else resident_bytes() / MIB

    def __call__(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call `function(*args)`, measured from an idle device to an idle device."""
        self._reset_peak()
        self._wait()
        start = time.perf_counter()
        result = function(*args)
        self._wait()
        self.milliseconds = (time.perf_counter() - start) * 1e3
        self.peak_mib = max(self.peak_mib, self._peak_mib())
        return result

    @property
    def _on_cuda(self) -> bool:
        return self.device.type == "cuda"

    def _wait(self) -> None:
        if self.device.type != "cpu":
            torch.accelerator.synchronize(self.device)

    def _reset_peak(self) -> None:
        if self._on_cuda:
            torch.cuda.reset_peak_memory_stats(self.device)
        else:
            _reset_peak_of_process()

    def _peak_mib(self) -> float:
        if self._on_cuda:
            return torch.cuda.max_memory_allocated(self.device) / MIB
        return max(peak_resident_bytes() / MIB - self._at_rest_mib, 0.0)


def _reset_peak_of_process() -> None:
    """Linux forgets the high-water mark on request; elsewhere it stays that of the whole process."""
    try:
        _CLEAR.write_text("5")
    except OSError:
        return
