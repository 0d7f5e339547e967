"""Records that every kind of evaluation shares."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["MetricRecord"]


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
