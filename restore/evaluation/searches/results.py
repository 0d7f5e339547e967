"""The record of a search: what was measured, compared and found, from which an interrupted search goes on."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import Any, ClassVar

from restore.evaluation.kept import KeptRecord

__all__ = ["Search"]


@dataclass
class Search(KeptRecord):
    """What is known so far.

    Attributes:
        measured: the networks that were measured, as choices.
        rounds: milliseconds of each of them, for each round.
        correlation: rank correlation of predicted and measured milliseconds, of networks that the prediction was not
            fitted to.
        scores: what networks with weights of the supernet reach, by their text (see `Space.key`).
        found: by bound: the network, what it reaches and costs, and the same of the network of the option file.
    """

    about: ClassVar[str] = "search"

    measured: list[list[int]] = field(default_factory=list)
    rounds: list[list[float]] = field(default_factory=list)
    correlation: float | None = None
    scores: dict[str, float] = field(default_factory=dict)
    found: dict[str, dict[str, Any]] = field(default_factory=dict)

    def milliseconds(self) -> list[float]:
        """The median of each network that was measured."""
        return [statistics.median(each) for each in zip(*self.rounds, strict=True)]
