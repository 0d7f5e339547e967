"""Metrics of an option file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from restore.metrics import BoundMetric, bind_metrics

if TYPE_CHECKING:
    from restore.options import Options

__all__ = ["metrics_of"]


def metrics_of(options: Options) -> dict[str, BoundMetric]:
    """The metrics under `val.metrics` by their labels there, for tests, validations and submissions.

    Raises:
        OptionsError: with every mistake in every block.
    """
    return bind_metrics(options.val.metrics, "val.metrics")
