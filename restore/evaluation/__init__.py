"""Evaluation: run a model over datasets, measure it beside a baseline, and write the figures and a page of pictures.

The names below are imported when they are first used: scoring images that are there already needs no models.
"""

from __future__ import annotations

import importlib
from typing import Any

_LAZY = {
    "DatasetResult": "restore.evaluation.models.results",
    "ImageResult": "restore.evaluation.models.results",
    "MetricRecord": "restore.evaluation.records",
    "Results": "restore.evaluation.models.results",
    "TestSet": "restore.evaluation.models.run",
    "evaluate": "restore.evaluation.models.run",
}

__all__ = ["DatasetResult", "ImageResult", "MetricRecord", "Results", "TestSet", "evaluate"]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'restore.evaluation' has no attribute '{name}'")
