"""Records that every kind of evaluation shares."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["MetricRecord", "plain"]


@dataclass
class MetricRecord:
    """A metric as it was asked for.

    Attributes:
        type: registered name of the metric.
        better: "higher" or "lower".
        unit: "dB" or nothing.
        missing: why it could not be computed and how to get what it lacks; None when all is well.
    """

    type: str
    better: str = "higher"
    unit: str = ""
    missing: str | None = None


def plain(value: Any) -> Any:
    """`value` as JSON can hold it: infinities and not-a-number as texts, mappings and sequences all the way down."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
    return value
