"""The metrics of a run, computed for one image at a time, and outlived by the run.

A metric that lacks something (weights that cannot be downloaded, an optional package) is recorded as missing, with what
to do about it, and asked no more; the others go on.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from restore.errors import MissingError
from restore.evaluation.records import MetricRecord
from restore.metrics import BoundMetric
from restore.metrics.inputs import Images

__all__ = ["Measures"]

logger = logging.getLogger(__name__)


class Measures:
    """The metrics of a run, ready to be called.

    Args:
        metrics: by label.

    Attributes:
        records: what is known about each metric, by label.
    """

    def __init__(self, metrics: Mapping[str, BoundMetric]):
        self.records: dict[str, MetricRecord] = {}
        self._metrics = dict(metrics)
        for label, metric in metrics.items():
            better = "higher" if metric.traits.higher_is_better else "lower"
            self.records[label] = MetricRecord(metric.name, better, "dB" if "psnr" in metric.name.lower() else "")

    def __call__(self, restored: Images, reference: Images | None) -> dict[str, float]:
        """The value of every metric that can be computed; without a reference, of those that need none."""
        values = {}
        for label, metric in list(self._metrics.items()):
            if reference is None and metric.traits.needs_reference:
                continue
            try:
                values[label] = float(metric(restored, reference))
            except MissingError as error:
                self.records[label].missing = str(error)
                del self._metrics[label]
                logger.warning("%s is left out: %s", label, error)
        return values
