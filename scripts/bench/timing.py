"""Fair timing for the benchmarks: candidates run in turn, medians are compared within one run.

Every benchmark prints a table and writes the same figures as JSON. The limits of the processor (or the GPU) stand in
the table, so that a figure can be held against what the machine can do at all.
"""

from __future__ import annotations

import json
import multiprocessing
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch

Maker = Callable[[], Callable[[], object]]
"""Gives what is to be timed. It is called in another process: a function of a module, or a partial of one."""


@dataclass
class Times:
    """Seconds of one candidate, round by round.

    Attributes:
        clock: by the clock.
        processor: of the processor, of its worker processes too.
    """

    clock: list[float]
    processor: list[float]


def apart(candidates: Mapping[str, Maker], runs: int = 5, warmup: int = 1) -> dict[str, Times]:
    """Times of candidates that are each in a process of its own and take turns, as programs that exclude each other."""
    processes = {name: _Process(maker) for name, maker in candidates.items()}
    times = {name: Times([], []) for name in candidates}
    try:
        for round_ in range(-warmup, runs):
            for name, process in processes.items():
                clock, processor = process.run()
                if round_ >= 0:
                    times[name].clock.append(clock)
                    times[name].processor.append(processor)
    finally:
        for process in processes.values():
            process.stop()
    return times


def against(times: Mapping[str, Times], reference: str) -> list[dict[str, object]]:
    """Rows for `report`: medians, and how many times as fast as the reference each is, round by round."""
    base = times[reference]
    return [
        {
            "what": name,
            "clock [s]": statistics.median(each.clock),
            "processor [s]": statistics.median(each.processor),
            "times as fast": statistics.median(a / b for a, b in zip(base.clock, each.clock, strict=True)),
            "by processor time": statistics.median(a / b for a, b in zip(base.processor, each.processor, strict=True)),
        }
        for name, each in times.items()
    ]


class _Process:
    """A process that does its work once whenever it is told to."""

    def __init__(self, maker: Maker):
        self.pipe, there = multiprocessing.Pipe()
        context = multiprocessing.get_context("spawn")
        self.process = context.Process(target=_serve, args=(maker, torch.get_num_threads(), there))
        self.process.start()
        there.close()
        self.pipe.recv()

    def run(self) -> tuple[float, float]:
        self.pipe.send(True)
        return self.pipe.recv()

    def stop(self) -> None:
        if self.process.is_alive():
            self.pipe.send(False)
        self.process.join()


def _serve(maker: Maker, num_threads: int, pipe: Any) -> None:
    if "fork" in multiprocessing.get_all_start_methods():  # as in a program: a process that was spawned would spawn
        multiprocessing.set_start_method("fork", force=True)
    torch.set_num_threads(num_threads)
    work = maker()
    pipe.send(None)
    while pipe.recv():
        start, begun = time.perf_counter(), _processor_seconds()
        work()
        pipe.send((time.perf_counter() - start, _processor_seconds() - begun))


def _processor_seconds() -> float:
    """Of this process, precisely, and of its children, those that have ended too, in hundredths."""
    own = psutil.Process().cpu_times()
    seconds = time.process_time() + own.children_user + own.children_system
    for child in psutil.Process().children(recursive=True):
        spent = child.cpu_times()
        seconds += spent.user + spent.system
    return seconds


def interleaved(
    candidates: Mapping[str, Callable[[], object]], runs: int = 5, warmup: int = 1
) -> dict[str, list[float]]:
    """Seconds of each candidate in each of `runs` rounds, the candidates taking turns within a round."""
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for round_ in range(-warmup, runs):
        for name, run in candidates.items():
            synchronise()
            start = time.perf_counter()
            run()
            synchronise()
            if round_ >= 0:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def synchronise() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def summary(seconds: Mapping[str, list[float]], reference: str) -> dict[str, dict[str, float]]:
    """Median, spread and the median of the ratios to `reference`, round by round."""
    return {
        name: {
            "median_s": statistics.median(values),
            "min_s": min(values),
            "max_s": max(values),
            "ratio": statistics.median(a / b for a, b in zip(values, seconds[reference], strict=True)),
        }
        for name, values in seconds.items()
    }


def machine(device: str = "cpu") -> dict[str, object]:
    """What the figures were measured on, with its measured limits."""
    side = 1024 if device == "cpu" else 8192
    a = torch.randn(side, side, device=device)
    product = min(interleaved({"x": lambda: a @ a}, 5)["x"])
    source = torch.empty(64 * 2**20, device=device)  # 256 MiB of float32
    target = torch.empty_like(source)
    copy = min(interleaved({"x": lambda: target.copy_(source)}, 5)["x"])
    return {
        "device": torch.cuda.get_device_name() if device != "cpu" else _processor(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "matrix product [GFLOP/s]": 2 * side**3 / product / 1e9,
        "memory copy [GB/s]": 2 * source.numel() * 4 / copy / 1e9,
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())


def report(title: str, rows: list[dict[str, object]], facts: Mapping[str, object], path: str | Path | None) -> None:
    """Print rows as a table and write them with the facts about the machine as JSON."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, caption="; ".join(f"{key}: {_shown(value)}" for key, value in facts.items()))
    columns = list(dict.fromkeys(key for row in rows for key in row))
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 else "right")
    for row in rows:
        table.add_row(*(_shown(row.get(column, "")) for column in columns))
    Console(width=None if Console().is_terminal else 120).print(table)
    if path:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(json.dumps({"title": title, "machine": facts, "rows": rows}, indent=2) + "\n")


def _shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
