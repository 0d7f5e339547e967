"""`restore doctor`: what this installation is made of, what it can use, and what is wrong with it.

Exit code 1 where something is wrong.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import re
import shutil
from pathlib import Path
from typing import Any

from restore.commands.arguments import add_json
from restore.terminal import open_console, tell_json

__all__ = ["add_arguments", "faults", "report", "run"]

GIB = 1 << 30
CV2 = ("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless")
PACKAGE = "restore-toolkit"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Only how to print."""
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print what was found; returns 1 if something is wrong."""
    found = report()
    wrong = faults(found)
    if arguments.json:
        tell_json(found | {"wrong": wrong})
        return int(bool(wrong))
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, show_header=False)
    for group, values in found.items():
        table.add_row(Text(group, "bold"), "")
        for name, value in values.items():
            table.add_row(f"  {name}", Text(_words(value)))
    console = open_console(markup=False, emoji=False, highlight=False)
    console.print(table)
    for line in wrong:
        console.print(Text(f"✗ {line}", "red"))
    if not wrong:
        console.print(Text("✓ nothing is wrong", "green"))
    return int(bool(wrong))


def report() -> dict[str, dict[str, Any]]:
    """Versions, devices, memory and optional parts, in groups."""
    import torch

    import restore
    from restore.images import compiled
    from restore.inference.memory import free_bytes
    from restore.inference.precision import has_fast_bf16
    from restore.layers.compiled.library import description

    required, optional = _requirements()
    return {
        "this": {
            "restore": restore.__version__,
            "folder": str(Path(restore.__file__).parent),
            "python": platform.python_version(),
            "system": platform.platform(),
        },
        "required": {name: _version(name) for name in required},
        "optional": {
            f"[{extra}]": {name: _version(name) for name in names} for extra, names in sorted(optional.items())
        },
        "devices": {
            "processor": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "threads of torch": torch.get_num_threads(),
            "instructions": torch.backends.cpu.get_cpu_capability(),
            "precisions": "fp32, bf16" + (" (fast)" if has_fast_bf16(torch.device("cpu")) else " (slow)"),
            "compiled attention": description(),
            "compiled pixels": compiled.description(),
            **_accelerators(),
        },
        "room": {
            "free memory": f"{free_bytes(torch.device('cpu')) / GIB:.1f} GiB",
            "free disk here": f"{shutil.disk_usage('.').free / GIB:.1f} GiB",
        },
    }


def faults(found: dict[str, dict[str, Any]]) -> list[str]:
    """What is wrong, and what to do about it, a line each."""
    wrong = [
        f"{name} is not installed: run `pip install {name}`."
        for name, version in found["required"].items()
        if not version
    ]
    installed = [name for name in CV2 if _version(name)]
    if len(installed) > 1:
        wrong.append(
            f"{' and '.join(installed)} overwrite each other: run `pip uninstall -y {' '.join(installed)}` and then "
            "`pip install opencv-python`."
        )
    for module in ("cv2", "torchvision", "timm"):
        try:
            __import__(module)
        except Exception as error:  # whatever a broken binary raises
            wrong.append(f"{module} cannot be imported ({error}): install it again.")
    try:
        from restore.packaged import packaged_folder

        packaged_folder("options")
    except Exception as error:
        wrong.append(str(error))
    return wrong


def _requirements() -> tuple[list[str], dict[str, list[str]]]:
    """Names of the required packages, and of the optional ones by extra."""
    required: list[str] = []
    optional: dict[str, list[str]] = {}
    try:
        lines = importlib.metadata.requires(PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:  # run from a checkout that is not installed
        return required, optional
    for line in lines:
        name = re.split(r"[\s\[<>=!;~]", line, maxsplit=1)[0]
        extra = re.search(r"extra\s*==\s*['\"]([\w-]+)['\"]", line)
        if extra is None:
            required.append(name)
        elif name != PACKAGE and extra[1] not in ("dev", "test", "all"):
            optional.setdefault(extra[1], []).append(name)
    return required, optional


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _accelerators() -> dict[str, str]:
    import torch

    from restore.inference.precision import accelerator

    there = accelerator()
    if there is None:
        return {"accelerator": "none: everything runs on the processor"}
    own = torch.get_device_module(there)
    name = getattr(own, "get_device_name", lambda number: "present")
    return {f"{there.type}:{number}": str(name(number)) for number in range(torch.accelerator.device_count())}


def _words(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {version or 'missing'}" for name, version in value.items())
    return "missing" if value is None else str(value)
