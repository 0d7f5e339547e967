"""Fair timing for the benchmarks: candidates run in turn, medians are compared within one run.

Every benchmark prints a table and writes the same figures as JSON. The limits of the processor (or the GPU) stand in
the table, so that a figure can be held against what the machine can do at all.
"""

from __future__ import annotations

import json
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch


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
