"""The record of a sweep: one JSON file, written after every training, from which an interrupted sweep goes on."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import Any, ClassVar

from restore.evaluation.kept import KeptRecord

__all__ = ["MEASURES", "Sweep"]

MEASURES = {"psnr": "PSNR [dB]", "srcc": "SRCC"}
"""What trainings are compared by; more is better."""


@dataclass
class Sweep(KeptRecord):
    """What is known so far.

    Attributes:
        trials: one for each task, component and seed: {task, name, seed, seconds} with `psnr`, `srcc` or `error`.
        costs: by task and component: parameters, and multiply-adds, milliseconds and MiB for each side in pixels.
    """

    about: ClassVar[str] = "sweep"

    trials: list[dict[str, Any]] = field(default_factory=list)
    costs: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)

    def trial(self, task: str, name: str, seed: int) -> dict[str, Any] | None:
        """What a training found, if it was done."""
        of_it = (each for each in self.trials if (each["task"], each["name"], each["seed"]) == (task, name, seed))
        return next((each for each in of_it if "error" not in each), None)

    def keep(self, trial: dict[str, Any]) -> None:
        """Add a training, in the place of an earlier try."""
        same = ("task", "name", "seed")
        self.trials = [each for each in self.trials if any(each[key] != trial[key] for key in same)] + [trial]

    def tasks(self) -> list[str]:
        """In the order in which they were first done."""
        return list(dict.fromkeys(each["task"] for each in self.trials))

    def measure(self, task: str) -> str:
        """What trainings of a task are compared by, one of `MEASURES`."""
        return next((key for each in self.trials if each["task"] == task for key in MEASURES if key in each), "psnr")

    def rows(self, task: str) -> list[dict[str, Any]]:
        """Each component of a task with the mean of its measure over its seeds, and what it costs; the best first."""
        rows, measure = [], self.measure(task)
        for name in dict.fromkeys(each["name"] for each in self.trials if each["task"] == task):
            of_it = [each for each in self.trials if (each["task"], each["name"]) == (task, name)]
            values = [each[measure] for each in of_it if "error" not in each]
            errors = [each["error"] for each in of_it if "error" in each]
            rows.append(
                {
                    "name": name,
                    "value": statistics.fmean(values) if values else None,
                    "spread": statistics.stdev(values) if len(values) > 1 else None,
                    "num_seeds": len(values),
                    "error": errors[0] if errors and not values else "",
                    **self.costs.get(task, {}).get(name, {}),
                }
            )
        return sorted(rows, key=lambda row: (row["value"] is None, -(row["value"] or 0.0)))
