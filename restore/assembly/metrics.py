"""Metrics of an option file."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from restore.registry import METRICS

if TYPE_CHECKING:
    from restore.options import Options

__all__ = ["bind_metrics"]


def bind_metrics(options: Options) -> dict[str, Callable[..., float]]:
    """The metrics under `val.metrics` by their labels there, as functions of a restored image and its reference.

    Raises:
        OptionsError: a block has mistakes.
    """
    return {name: METRICS.bind(block, path=f"val.metrics.{name}") for name, block in options.val.metrics.items()}
