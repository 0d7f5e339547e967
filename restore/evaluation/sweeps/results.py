"""The record of a sweep: one JSON file, written after every training, from which an interrupted sweep goes on."""

from __future__ import annotations

import json
import statistics
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from restore.errors import DataError
from restore.files import atomic_write, encoded
from restore.terminal import plain

__all__ = ["MEASURES", "Sweep"]

MEASURES = {"psnr": "PSNR [dB]", "srcc": "SRCC"}
"""What trainings are compared by; more is better."""


@dataclass
class Sweep:
    """What is known so far.

    Attributes:
        settings: what trainings have in common; those of other settings cannot be compared.
        environment: the machine.
        trials: one for each task, component and seed: {task, name, seed, seconds} with `psnr`, `srcc` or `error`.
        costs: by task and component: parameters, and multiply-adds, milliseconds and MiB for each side in pixels.
    """

    settings: dict[str, Any]
    environment: dict[str, Any] = field(default_factory=dict)
    trials: list[dict[str, Any]] = field(default_factory=list)
    costs: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)

    @classmethod
    def opened(cls, path: Path, settings: dict[str, Any], environment: dict[str, Any]) -> Sweep:
        """The record in this file, to be gone on with, or a new one.

        Raises:
            DataError: it is of other settings, or cannot be read.
        """
        if not path.exists():
            return cls(settings, environment)
        try:
            found = cls(**json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            message = f"{path}: not the record of a sweep ({error}). Move it away, or choose another folder."
            raise DataError(message) from None
        changed = [key for key in settings if found.settings.get(key, settings[key]) != settings[key]]
        if changed:
            raise DataError(
                f"{path}: a sweep with other settings ({', '.join(changed)}), whose figures cannot be compared with "
                "these. Choose another folder with -o, or the same settings to go on with it."
            )
        found.settings |= settings
        return found

    def save(self, path: Path) -> None:
        """Write the record."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as file:
            file.write(encoded(json.dumps(plain(vars(self)), indent=1) + "\n"))

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
