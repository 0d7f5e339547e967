"""How the values of a metric are spread over images."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from restore.evaluation.records import MetricRecord
from restore.evaluation.scoring.results import ImageScore
from restore.reports import charts
from restore.reports.format import figure, heading

__all__ = ["Distribution", "distribution"]


@dataclass(frozen=True)
class Distribution:
    """A chart of all finite values.

    Attributes:
        chart: SVG.
        num_infinite: images whose value is infinite, and not drawn.
    """

    chart: str
    num_infinite: int


def distribution(
    images: Sequence[ImageScore], label: str, metric: MetricRecord, anchors: Mapping[str, str]
) -> Distribution | None:
    """The spread of a metric over images; None where not one value is finite.

    Args:
        images: all that were scored.
        label: of the metric.
        metric: how its values are written.
        anchors: where on the page the row of an image is, by name.
    """
    values = {image.name: image.values[label] for image in images if math.isfinite(image.values.get(label, math.nan))}
    if not values:
        return None
    links = {name: f"#{anchors[name]}" for name in values}
    chart = charts.distribution(values, heading(label), lambda value: figure(value, metric), links)
    return Distribution(chart, sum(math.isinf(image.values.get(label, 0.0)) for image in images))
