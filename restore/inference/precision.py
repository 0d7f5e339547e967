"""Which device and which arithmetic a network runs in, and what "auto" stands for."""

from __future__ import annotations

import contextlib
from collections.abc import Collection
from pathlib import Path

import torch

from restore.errors import OptionsError

__all__ = ["PRECISIONS", "accelerator", "arithmetic", "has_fast_bf16", "resolve_device", "resolve_precision"]

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
AMPERE = (8, 0)  # the first NVIDIA generation with bfloat16 matrix units
CPU_BF16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}  # the last one is ARM's


def accelerator() -> torch.device | None:
    """The kind of device, beside the processor, that this torch can compute on: cuda, mps, xpu, npu ..., or None."""
    return torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None


def resolve_device(device: str | torch.device = "auto") -> torch.device:
    """The device to run on; "auto" takes the accelerator that torch sees, or else the processor.

    Raises:
        OptionsError: no such device, or it is not there.
    """
    if str(device) == "cpu":  # without a look at the others, for which torch loads their libraries
        return torch.device("cpu")
    there = accelerator()
    if device == "auto":
        return torch.device(there.type if there else "cpu")
    count = torch.accelerator.device_count() if there else 0
    names = ["cpu", *([there.type] if count == 1 and there else [f"{there.type}:{n}" for n in range(count) if there])]
    try:
        resolved = torch.device(device)
    except RuntimeError:  # a kind that this torch has never heard of
        resolved = None
    if resolved is not None and resolved.type == "cpu":
        return resolved
    if resolved is not None and there and resolved.type == there.type and (resolved.index or 0) < count:
        return resolved
    raise OptionsError(f"device is '{device}': torch sees {', '.join(names)} here. Use auto or one of these.")


def resolve_precision(
    precision: str, device: torch.device, survives: Collection[str] = ("fp32", "bf16")
) -> torch.dtype:
    """The arithmetic to run in; "auto" is bf16 where network and processor take it and it is fast, else fp32.

    Args:
        precision: auto, fp32, bf16 or fp16.
        device: where the network runs.
        survives: the precisions in which the network's result holds (`ImageSpec.precisions`).

    Raises:
        OptionsError: unknown, or the network does not survive it.
    """
    if precision == "auto":
        return torch.bfloat16 if "bf16" in survives and has_fast_bf16(device) else torch.float32
    if precision not in PRECISIONS:
        raise OptionsError(f"precision is '{precision}': must be auto or one of {', '.join(PRECISIONS)}.")
    if precision not in survives:
        raise OptionsError(
            f"precision is '{precision}', in which this network's activations overflow or lose the image: "
            f"use auto or one of {', '.join(survives)}."
        )
    return PRECISIONS[precision]


def has_fast_bf16(device: torch.device) -> bool:
    """Whether bfloat16 multiplies faster: CUDA from sm80 on, processors with AVX512-BF16, AMX or ARM's bf16."""
    if device.type == "cuda":
        return torch.version.hip is not None or torch.cuda.get_device_capability(device) >= AMPERE
    return device.type == "cpu" and not CPU_BF16_FLAGS.isdisjoint(_cpu_flags())


def arithmetic(device: torch.device, dtype: torch.dtype) -> contextlib.AbstractContextManager[object]:
    """A context in which matrix products run in `dtype`, and what needs more stays in float32."""
    if dtype is torch.float32:
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=dtype)


def _cpu_flags(cpuinfo: Path = Path("/proc/cpuinfo")) -> set[str]:
    """The instruction sets of the first core; empty where the system does not tell."""
    if not cpuinfo.exists():
        return set()
    for line in cpuinfo.read_text().splitlines():
        name, _, values = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return set(values.split())
    return set()
