"""What an evaluation found, as plain records, and the files made of them: results.json and metrics.csv.

    Results
    └── DatasetResult            one dataset: means, milliseconds per image, peak memory
        └── ImageResult          one image: every metric for the restored image and for the baseline

The baseline is what costs nothing: bicubic upsampling for a network that enlarges, the input itself for one that does
not. A metric that could not be computed stands in the records with the reason, so that a missing column is explained.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from restore.evaluation.records import MetricRecord
from restore.terminal import csv_text, plain

__all__ = ["DatasetResult", "ImageResult", "Results"]


@dataclass
class ImageResult:
    """One restored image.

    Attributes:
        name: name of the item in its dataset.
        file: path of the written image relative to the folder of the results; None when images are not saved.
        size: (height, width) of the restored image.
        input_size: (height, width) of the input.
        milliseconds: time of the restoration alone, without reading and writing.
        restored: value of each metric for the restored image.
        baseline: value of each metric for the baseline.
    """

    name: str
    file: str | None
    size: tuple[int, int]
    input_size: tuple[int, int]
    milliseconds: float
    restored: dict[str, float] = field(default_factory=dict)
    baseline: dict[str, float] = field(default_factory=dict)


@dataclass
class DatasetResult:
    """The images of one dataset and their summary.

    Attributes:
        name: name of the dataset.
        num_expected: number of images in the dataset; more than were restored when the run was cut short.
        has_reference: whether there are references to compare with.
        peak_memory_mib: largest memory that one restoration took (device memory on CUDA, else growth of the process).
    """

    name: str
    num_expected: int
    has_reference: bool
    images: list[ImageResult] = field(default_factory=list)
    peak_memory_mib: float = 0.0

    @property
    def milliseconds(self) -> float | None:
        """Median time of one restoration."""
        return statistics.median(image.milliseconds for image in self.images) if self.images else None

    def mean(self, metric: str, side: str = "restored") -> float | None:
        """Mean of a metric over the images, for `side` "restored" or "baseline"; None where there is no value."""
        values = [getattr(image, side)[metric] for image in self.images if metric in getattr(image, side)]
        return math.fsum(values) / len(values) if values else None

    def summary(self, metrics: Iterable[str]) -> dict[str, dict[str, float | None]]:
        """Mean of each metric: restored, baseline and their difference."""
        rows = {}
        for metric in metrics:
            restored, baseline = self.mean(metric), self.mean(metric, "baseline")
            difference = None if restored is None or baseline is None else restored - baseline
            rows[metric] = {"restored": restored, "baseline": baseline, "difference": difference}
        return rows


@dataclass
class Results:
    """Everything that one evaluation found.

    Attributes:
        name: name of the run.
        scale: enlargement.
        baseline: what the baseline is: "bicubic" or "input".
        metrics: every metric asked for, by its label.
        datasets: one record for each dataset.
        environment: versions, device, precision: what the figures depend on.
        complete: False when the run was interrupted or failed; then `stopped_by` says by what.
    """

    name: str
    scale: int
    baseline: str
    metrics: dict[str, MetricRecord]
    datasets: list[DatasetResult] = field(default_factory=list)
    environment: dict[str, Any] = field(default_factory=dict)
    complete: bool = False
    stopped_by: str | None = None

    @property
    def num_images(self) -> int:
        """Number of restored images."""
        return sum(len(dataset.images) for dataset in self.datasets)

    def as_dict(self) -> dict[str, Any]:
        """Nested plain values; figures that JSON does not know are the texts "inf" and "nan"."""
        return plain(
            {
                "name": self.name,
                "complete": self.complete,
                "stopped_by": self.stopped_by,
                "scale": self.scale,
                "baseline": self.baseline,
                "metrics": {label: vars(metric) for label, metric in self.metrics.items()},
                "environment": self.environment,
                "datasets": {
                    dataset.name: {
                        "num_images": len(dataset.images),
                        "num_expected": dataset.num_expected,
                        "has_reference": dataset.has_reference,
                        "ms_per_image": dataset.milliseconds,
                        "peak_memory_mib": dataset.peak_memory_mib,
                        "mean": dataset.summary(self.metrics),
                        "images": [vars(image) for image in dataset.images],
                    }
                    for dataset in self.datasets
                },
            }
        )

    def as_json(self) -> str:
        """The text of results.json."""
        return json.dumps(self.as_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    def as_csv(self) -> str:
        """The text of metrics.csv: one row for each image, one column for each metric and its baseline."""
        labels = [label for label, metric in self.metrics.items() if metric.missing is None]
        columns = [column for label in labels for column in (label, f"{label}_{self.baseline}")]
        rows: list[list[Any]] = [["dataset", "image", "width", "height", "ms", *columns]]
        for dataset in self.datasets:
            for image in dataset.images:
                values = [side.get(label, "") for label in labels for side in (image.restored, image.baseline)]
                height, width = image.size
                rows.append([dataset.name, image.name, width, height, round(image.milliseconds, 3), *values])
        return csv_text(rows)
