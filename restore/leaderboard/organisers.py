"""results.json and results.txt of the organisers' repositories (efficient SR and denoising, 2022-2026).

One entry for each model: runtimes and PSNR by image and on average, for `valid` and perhaps `test`, peak memory,
activations, convolutions, FLOPs, parameters. What is written merges with the file that is there. What organisers call
FLOPs since 2024 are multiply-adds; `restore.analysis.cost` has the rules by which they are counted.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from restore.analysis.cost import image_cost
from restore.errors import DataError
from restore.files import atomic_write

__all__ = ["Complexity", "merge_results", "read_results", "results_entry", "results_table"]

COMPLEXITY = ("activations", "num_conv", "flops", "num_parameters")
SETS = ("valid", "test")


@dataclass(frozen=True)
class Complexity:
    """What a network costs for one image of 256 x 256, in the organisers' units.

    Attributes:
        params_m: parameters, in 10^6.
        flops_g: multiply-adds, in 10^9.
        activations_m: elements of the outputs of convolutions, in 10^6.
        num_conv: calls of convolutions.
    """

    params_m: float
    flops_g: float
    activations_m: float
    num_conv: int

    @classmethod
    def of(cls, network: nn.Module, *, channels: int = 3) -> Complexity:
        """Count what a network of images of so many channels costs; it is run once, where it is."""
        cost = image_cost(network, channels=channels)
        return cls(cost.parameters / 1e6, cost.macs / 1e9, cost.activations / 1e6, cost.num_convs)


def results_entry(
    runtime_ms: Sequence[float],
    psnr: Sequence[float],
    memory_mib: float,
    complexity: Complexity,
    *,
    split: str = "valid",
    ssim: Sequence[float] | None = None,
) -> dict[str, Any]:
    """The entry of a model for one set, with exactly the organisers' keys in their order."""
    entry: dict[str, Any] = {f"{split}_runtime": list(runtime_ms), f"{split}_psnr": list(psnr)}
    if ssim is not None:
        entry[f"{split}_ssim"] = list(ssim)
    entry[f"{split}_memory"] = memory_mib
    entry[f"{split}_ave_runtime"] = sum(runtime_ms) / len(runtime_ms)
    entry[f"{split}_ave_psnr"] = sum(psnr) / len(psnr)
    if ssim is not None:
        entry[f"{split}_ave_ssim"] = sum(ssim) / len(ssim)
    entry["activations"] = complexity.activations_m
    entry["num_conv"] = complexity.num_conv
    entry["flops"] = complexity.flops_g
    entry["num_parameters"] = complexity.params_m
    return entry


def merge_results(path: Path, model: str, entry: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Add an entry to results.json, or its set to the entry that is there; returns all entries."""
    results = read_results(path) if path.is_file() else {}
    before = {key: value for key, value in results.get(model, {}).items() if key not in COMPLEXITY}
    results[model] = {**before, **entry}
    with atomic_write(path) as file:
        file.write(json.dumps(results).encode())
    with atomic_write(path.with_suffix(".txt")) as file:
        file.write(results_table(results).encode())
    return results


def read_results(path: str | Path) -> dict[str, dict[str, Any]]:
    """The entries of a results.json.

    Raises:
        DataError: it is not one; the message says what is missing.
    """
    path = Path(path)
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read '{path}': {getattr(error, 'strerror', None) or error}.") from error
    if not isinstance(results, dict) or not results:
        raise DataError(f"'{path}' holds no entries of models.")
    for model, entry in results.items():
        split = next((name for name in SETS if isinstance(entry, dict) and f"{name}_ave_psnr" in entry), None)
        wanted = [f"{split or 'valid'}_{key}" for key in ("ave_psnr", "ave_runtime", "memory")] + [*COMPLEXITY]
        missing = [key for key in wanted if not isinstance(entry, dict) or not _is_number(entry.get(key))]
        if missing:
            raise DataError(f"'{path}': the entry '{model}' lacks {', '.join(missing)}.")
    return results


def results_table(results: Mapping[str, Mapping[str, Any]]) -> str:
    """results.txt: the entries as a table with tabs; columns of the test set where every entry has it."""
    tested = all("test_ave_psnr" in entry and "valid_ave_psnr" in entry for entry in results.values())
    columns = [("Model", 20), ("Val PSNR", 10), ("Val Time [ms]", 14), *_COST]
    if tested:
        columns[2:3] = [("Test PSNR", 10), ("Val Time [ms]", 14), ("Test Time [ms]", 14), ("Ave Time [ms]", 14)]
    rows = [{name: name for name, _ in columns}]
    rows += [_row(model, entry) for model, entry in results.items()]
    return "".join("\t".join(f"{row[name]:{width}s}" for name, width in columns) + "\n" for row in rows)


_COST = [("Params [M]", 10), ("FLOPs [G]", 10), ("Acts [M]", 8), ("Mem [M]", 8), ("Conv", 8)]


def _row(model: str, entry: Mapping[str, Any]) -> dict[str, str]:
    first = "valid" if "valid_ave_psnr" in entry else "test"
    row = {
        "Model": model,
        "Val PSNR": f"{entry[f'{first}_ave_psnr']:.2f}",
        "Val Time [ms]": f"{entry[f'{first}_ave_runtime']:.2f}",
        "Params [M]": f"{entry['num_parameters']:.3f}",
        "FLOPs [G]": f"{entry['flops']:.2f}",
        "Acts [M]": f"{entry['activations']:.2f}",
        "Mem [M]": f"{entry[f'{first}_memory']:.2f}",
        "Conv": f"{entry['num_conv']:4d}",
    }
    if "test_ave_psnr" in entry and "valid_ave_psnr" in entry:
        row["Test PSNR"] = f"{entry['test_ave_psnr']:.2f}"
        row["Test Time [ms]"] = f"{entry['test_ave_runtime']:.2f}"
        row["Ave Time [ms]"] = f"{(entry['valid_ave_runtime'] + entry['test_ave_runtime']) / 2:.2f}"
    return row


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
