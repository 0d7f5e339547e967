"""How a metric is registered: its direction and what it needs stand beside its name.

    @metric("psnr", higher_is_better=True)
    def psnr(restored, reference, *, border_px: int = 0): ...

    METRICS.bind({"type": "psnr", "border_px": 4})(restored, reference)
    traits("psnr").higher_is_better

Every metric is called as `metric(restored, reference)`; one that judges without a reference ignores it. Arguments that
an option file may set are keyword-only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from restore.registry import METRICS

__all__ = ["Traits", "metric", "traits"]

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class Traits:
    """What a caller has to know about a metric.

    Attributes:
        higher_is_better: the direction of quality.
        needs_reference: False for a metric that judges the restored image alone.
        of_sets: True for a metric of two sets of images (FID), which is called once with all of them.
        note: a remark that belongs beside the figure, such as a licence.
    """

    higher_is_better: bool
    needs_reference: bool = True
    of_sets: bool = False
    note: str = ""


def metric(*names: str, **facts: Any) -> Callable[[Function], Function]:
    """Decorator: register a metric under `names` with the `Traits` that `facts` describe."""

    def register(function: Function) -> Function:
        registered: Any = function
        registered.traits = Traits(**facts)
        return METRICS.add(*names)(function)

    return register


def traits(metric: str | Callable[..., Any]) -> Traits:
    """The traits of a metric, given by name, as the function or as what `METRICS.bind` returned.

    Raises:
        OptionsError: no metric has that name.
    """
    function: Any = METRICS.get(metric) if isinstance(metric, str) else metric
    found: Traits = getattr(function, "func", function).traits
    return found
