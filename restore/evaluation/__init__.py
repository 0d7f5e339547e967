"""Evaluation: run a model over datasets, measure it beside a baseline, and write the figures and a page of pictures."""

from restore.evaluation.evaluate import TestSet, evaluate
from restore.evaluation.results import DatasetResult, ImageResult, MetricRecord, Results

__all__ = ["DatasetResult", "ImageResult", "MetricRecord", "Results", "TestSet", "evaluate"]
