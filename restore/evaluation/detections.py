"""Run a detector over images whose boxes are known, and say how many it finds.

Written are `results.json` (average precisions) and the resolved options.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from restore.analysis.cost import count_parameters
from restore.detection import Detector
from restore.files import atomic_write, encoded
from restore.inference.finding import found_and_wanted
from restore.locks import reserved
from restore.metrics.detection import mean_average_precision

__all__ = ["evaluate_detector"]


def evaluate_detector(
    detector: Detector,
    datasets: Mapping[str, Dataset],
    *,
    name: str,
    results_root: str | Path = "results",
    options: str = "",
) -> dict[str, Any]:
    """Search every image of every dataset and write `results_root/name`; returns what results.json holds.

    Args:
        detector: in evaluation mode.
        datasets: images with boxes, by name.
        name: name of the run.
        results_root: folder of all results.
        options: text of the resolved options, written beside the results.
    """
    folder = Path(results_root) / name
    with reserved(folder):
        found: dict[str, Any] = {}
        for key, dataset in datasets.items():
            pairs = list(found_and_wanted(detector, dataset))
            mean, of_kinds = mean_average_precision(pairs, detector.kinds)
            found[key] = {
                "num_images": len(pairs),
                "num_boxes": sum(len(wanted) for _, wanted in pairs),
                "ap50": _known(mean),
                "ap50_of_kinds": {kind: _known(value) for kind, value in of_kinds.items()},
            }
        results = {
            "name": name,
            "network": type(detector).__name__,
            "parameters": count_parameters(detector),
            "datasets": found,
        }
        for file_name, text in {"results.json": json.dumps(results, indent=2) + "\n", f"{name}.yml": options}.items():
            if text:
                with atomic_write(folder / file_name) as file:
                    file.write(encoded(text))
        return results


def _known(value: float) -> float | None:
    """JSON has no word for what is not a number: the precision of a kind of which there are no boxes."""
    return None if math.isnan(value) else value
