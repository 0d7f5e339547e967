"""The runtime of the network alone: from its call to its return, for every tile and flip of an image."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import torch
from torch import nn

__all__ = ["ForwardClock"]


class ForwardClock:
    """Adds up the time that a network's calls take: CUDA events on a GPU, the clock on the wall elsewhere.

    Decoding, padding, blending, rounding and writing do not count, as in the organisers' code.
    """

    def __init__(self, network: nn.Module, device: torch.device):
        self._network = network
        self._on_cuda = device.type == "cuda"
        self._marks: list[torch.cuda.Event | float] = []

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Measure for as long as it lasts."""
        self._marks.clear()
        hooks = [
            self._network.register_forward_pre_hook(lambda *_: self._mark()),
            self._network.register_forward_hook(lambda *_: self._mark()),
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def seconds(self) -> float:
        """Sum of all calls while it last ran."""
        pairs = zip(self._marks[::2], self._marks[1::2], strict=False)
        if self._on_cuda:
            torch.cuda.synchronize()
            return sum(start.elapsed_time(end) for start, end in pairs) / 1e3
        return sum(end - start for start, end in pairs)

    def _mark(self) -> None:
        if not self._on_cuda:
            self._marks.append(time.perf_counter())
            return
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        self._marks.append(event)
