"""The metrics of a run: bound to their options, computed for one image at a time, and outlived by the run.

A metric that lacks something (weights that cannot be downloaded, an optional package) is recorded as missing, with what
to do about it, and asked no more; the others go on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from restore.errors import MissingError, OptionsError, Problem
from restore.evaluation.records import MetricRecord
from restore.metrics import traits
from restore.metrics.inputs import Images
from restore.registry import METRICS

__all__ = ["Measures"]

logger = logging.getLogger(__name__)

Block = Mapping[str, Any]

_OF_SETS = "{0} compares whole sets of images. In Python: restore.metrics.METRICS.get('{0}')(FOLDER, FOLDER)."


class Measures:
    """The metrics of an option file's `val.metrics`, ready to be called.

    Args:
        blocks: `{label: {type: NAME, option: value}}`.
        path: where the blocks stand in the option file, for messages.

    Attributes:
        records: what is known about each metric, by label.

    Raises:
        OptionsError: with every mistake in every block.
    """

    def __init__(self, blocks: Mapping[str, Block], path: str = "val.metrics"):
        self.records: dict[str, MetricRecord] = {}
        self._functions: dict[str, Callable[..., float]] = {}
        problems: list[Problem] = []
        for label, block in blocks.items():
            try:
                function = METRICS.bind(block, f"{path}.{label}")
                if traits(function).of_sets:
                    raise OptionsError([Problem(f"{path}.{label}", _OF_SETS.format(block["type"]))])
            except OptionsError as error:
                problems += error.problems
                continue
            better = "higher" if traits(function).higher_is_better else "lower"
            self.records[label] = MetricRecord(block["type"], better, "dB" if "psnr" in block["type"].lower() else "")
            self._functions[label] = function
        if problems:
            raise OptionsError(problems)

    def __call__(self, restored: Images, reference: Images | None) -> dict[str, float]:
        """The value of every metric that can be computed; without a reference, of those that need none."""
        values = {}
        for label, function in list(self._functions.items()):
            if reference is None and traits(function).needs_reference:
                continue
            try:
                values[label] = float(function(restored, reference))
            except MissingError as error:
                self.records[label].missing = str(error)
                del self._functions[label]
                logger.warning("%s is left out: %s", label, error)
        return values
