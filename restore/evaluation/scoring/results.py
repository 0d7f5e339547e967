"""What a scoring found, and the files made of it: scores.json and scores.csv."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from restore.evaluation.records import MetricRecord
from restore.terminal import csv_text, plain

__all__ = ["ImageScore", "Scores", "Summary"]


@dataclass
class ImageScore:
    """One image.

    Attributes:
        name: name of the restored file, below its folder.
        restored: its path.
        reference: path of the reference, if there is one.
        size: (height, width); None when it could not be read.
        values: value of each metric, by label.
        errors: what kept a metric (or, under "", all of them) from being computed.
        note: what was done to the image first, such as leaving out its alpha channel.
        reused: the values are those of an earlier run, as neither file has changed since.
    """

    name: str
    restored: str
    reference: str | None = None
    size: tuple[int, int] | None = None
    values: dict[str, float] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    note: str = ""
    reused: bool = False


@dataclass(frozen=True)
class Summary:
    """One metric over all images that have it.

    Infinite values (the PSNR of identical pairs) make the mean infinite. `finite_mean` and `deviation` leave the images
    out that have one by any metric, so that the means of all metrics are over the same images.
    """

    count: int
    num_infinite: int
    mean: float
    finite_mean: float
    median: float
    deviation: float
    worst: str
    best: str


@dataclass
class Scores:
    """Everything that one scoring found.

    Attributes:
        name: name of the folder that was scored.
        metrics: every metric that was asked for, by label.
        prepared: what each metric compares, in words.
        images: one record for each image.
        unmatched: files without a partner, and why.
        protocol: name of the protocol, if one was followed.
        scale: the enlargement that the protocol's border follows.
        environment: versions and machine.
        complete: False when the run was interrupted.
    """

    name: str
    metrics: dict[str, MetricRecord]
    prepared: dict[str, str]
    images: list[ImageScore] = field(default_factory=list)
    unmatched: dict[str, str] = field(default_factory=dict)
    protocol: str | None = None
    scale: int = 1
    environment: dict[str, Any] = field(default_factory=dict)
    complete: bool = False

    @property
    def shown(self) -> dict[str, MetricRecord]:
        """The metrics that could be computed at all."""
        return {label: metric for label, metric in self.metrics.items() if metric.missing is None}

    @property
    def failed(self) -> list[ImageScore]:
        """Images for which something could not be computed."""
        return [image for image in self.images if image.errors]

    @property
    def clean(self) -> bool:
        """Whether everything that was asked for is there."""
        return self.complete and not self.unmatched and not self.failed and len(self.shown) == len(self.metrics)

    @property
    def identical(self) -> set[str]:
        """The names of the images that are their reference, by a metric that is infinite then."""
        shown = self.shown
        return {
            image.name
            for image in self.images
            if any(math.isinf(value) for label, value in image.values.items() if label in shown)
        }

    def ranked(self, label: str) -> list[ImageScore]:
        """The images that have a value of this metric, the worst first."""
        having = [image for image in self.images if label in image.values]
        higher = self.metrics[label].better == "higher"
        return sorted(having, key=lambda image: image.values[label], reverse=not higher)

    def summary(self, label: str) -> Summary | None:
        """One metric over all images; None when no image has it."""
        ranked = self.ranked(label)
        if not ranked:
            return None
        values = [image.values[label] for image in ranked]
        identical = self.identical
        finite = [image.values[label] for image in ranked if image.name not in identical]
        return Summary(
            count=len(values),
            num_infinite=sum(map(math.isinf, values)),
            mean=math.fsum(values) / len(values),
            finite_mean=math.fsum(finite) / len(finite) if finite else math.nan,
            median=statistics.median(values),
            deviation=statistics.stdev(finite) if len(finite) > 1 else math.nan,
            worst=ranked[0].name,
            best=ranked[-1].name,
        )

    def as_dict(self) -> dict[str, Any]:
        """Nested plain values; figures that JSON does not know are the texts "inf" and "nan"."""
        summaries = {label: self.summary(label) for label in self.metrics}
        content = {
            "name": self.name,
            "complete": self.complete,
            "protocol": self.protocol,
            "scale": self.scale,
            "metrics": {label: {**vars(m), "prepared": self.prepared[label]} for label, m in self.metrics.items()},
            "summary": {label: asdict(summary) for label, summary in summaries.items() if summary},
            "unmatched": self.unmatched,
            "environment": self.environment,
            "images": [asdict(image) for image in self.images],
        }
        found: dict[str, Any] = plain(content)
        return found

    def as_json(self) -> str:
        """The text of scores.json."""
        return json.dumps(self.as_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    def as_csv(self) -> str:
        """The text of scores.csv: one row for each image; what is not there is left empty, and `error` says why."""
        rows: list[list[Any]] = [["image", "reference", "width", "height", *self.shown, "error"]]
        for image in self.images:
            height, width = image.size or ("", "")
            reference = Path(image.reference).name if image.reference else ""
            values = [image.values.get(label, "") for label in self.shown]
            rows.append([image.name, reference, width, height, *values, errors_in_words(image.errors)])
        for path, reason in self.unmatched.items():
            rows.append([path, *[""] * (3 + len(self.shown)), reason])
        return csv_text(rows)


def errors_in_words(errors: Mapping[str, str]) -> str:
    """All errors of an image as one line, each reason once with the metrics that it concerns."""
    by_reason: dict[str, list[str]] = {}
    for label, reason in errors.items():
        by_reason.setdefault(reason.rstrip("."), []).append(label)
    return "; ".join(
        f"{', '.join(filter(None, labels))}: {why}".removeprefix(": ") for why, labels in by_reason.items()
    )
