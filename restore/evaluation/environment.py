"""What the figures of a run depend on, in words."""

from __future__ import annotations

import platform
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from restore import __version__

if TYPE_CHECKING:
    from restore.inference import Restorer

__all__ = ["environment", "machine"]


def environment(restorer: Restorer) -> dict[str, Any]:
    """The model, how it is run, and on what."""
    import torch

    from restore.analysis.cost import count_parameters

    device = restorer.device
    return {
        "network": type(restorer.network).__name__,
        "parameters": f"{count_parameters(restorer.network):,}",
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type.upper(),
        "precision": str(restorer.dtype).removeprefix("torch."),
        "tile": restorer.tile,
        "padding": restorer.padding,
        **machine(),
    }


def machine() -> dict[str, Any]:
    """The processor, the versions and the date; of torch where it is used."""
    torch = sys.modules.get("torch")
    return {
        "processor": _processor(),
        **({"threads": torch.get_num_threads()} if torch else {}),
        "restore": __version__,
        **({"torch": torch.__version__} if torch else {}),
        "python": platform.python_version(),
        "system": platform.platform(terse=True),
        "date": time.strftime("%Y-%m-%d %H:%M"),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
