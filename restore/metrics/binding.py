"""Metrics of images with their options set: the one way from option blocks to functions.

    metrics = bind_metrics({"psnr_y": {"type": "psnr", "luma": True, "border_px": 4}})
    metrics["psnr_y"](restored, reference)

Metrics of whole sets of images, such as FID, are called by themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from restore.errors import OptionsError, Problem
from restore.metrics.inputs import Images
from restore.metrics.registration import Traits, traits
from restore.registry import METRICS

__all__ = ["BoundMetric", "bind_metrics"]

_OF_SETS = "{0} compares whole sets of images. In Python: restore.metrics.METRICS.get('{0}')(FOLDER, FOLDER)."


@dataclass(frozen=True)
class BoundMetric:
    """A metric of one image whose options are set.

    Attributes:
        name: what it is registered as.
        function: takes an image and its reference.
    """

    name: str
    function: Callable[..., Any]

    def __call__(self, restored: Images, reference: Images | None = None) -> Any:
        """The value for one image, or for each of a batch."""
        return self.function(restored, reference)

    @property
    def traits(self) -> Traits:
        """What a caller has to know about it."""
        return traits(self.function)


def bind_metrics(blocks: Mapping[str, Mapping[str, Any]], path: str = "val.metrics") -> dict[str, BoundMetric]:
    """The metrics that blocks describe, by the label of each.

    Args:
        blocks: `{label: {type: NAME, option: value}}`.
        path: where they stand, for messages.

    Raises:
        OptionsError: with every mistake in every block; a metric of whole sets of images is one.
    """
    metrics: dict[str, BoundMetric] = {}
    problems: list[Problem] = []
    for label, block in blocks.items():
        try:
            metrics[label] = BoundMetric(block["type"], METRICS.bind(block, f"{path}.{label}"))
        except OptionsError as error:
            problems += error.problems
            continue
        if metrics[label].traits.of_sets:
            problems.append(Problem(f"{path}.{label}", _OF_SETS.format(block["type"])))
    if problems:
        raise OptionsError(problems)
    return metrics
