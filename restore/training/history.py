"""Where the scalars of a run go: its own history file, TensorBoard, Weights & Biases."""

from __future__ import annotations

import functools
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from restore.errors import MissingError

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

__all__ = ["HISTORY", "History", "TensorBoard", "WeightsAndBiases", "read_history"]

log = logging.getLogger(__name__)

HISTORY = "history.jsonl"
Row = dict[str, float]


class History:
    """One line of JSON for each report, which `restore train --plot` draws."""

    def __init__(self, path: Path):
        self.path = path

    def __call__(self, scalars: Mapping[str, float], iteration: int) -> None:
        """Append a line."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"iter": iteration, **scalars}) + "\n")


def read_history(path: Path) -> dict[int, Row]:
    """The scalars of each iteration; where a resumed run went over iterations again, the later ones count."""
    rows: dict[int, Row] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:  # the line that a killed run was writing
            continue
        rows.setdefault(row.pop("iter"), {}).update(row)
    return dict(sorted(rows.items()))


class TensorBoard:
    """Event files with BasicSR's tags: `losses/l_*`, `metrics/DATASET/METRIC`, everything else by its name.

    Args:
        folder: where they go.
        resumed_at: what an earlier part of the run wrote of later iterations is not shown.

    Raises:
        MissingError: tensorboard is not installed.
    """

    def __init__(self, folder: Path, resumed_at: int | None = None):
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise MissingError(
                "logger.use_tb_logger is set and tensorboard is not installed: `pip install tensorboard`."
            ) from error
        purge_step = None if resumed_at is None else resumed_at + 1
        self._open = functools.partial(SummaryWriter, str(folder), purge_step=purge_step)

    @functools.cached_property
    def _writer(self) -> SummaryWriter:
        return self._open()

    def __call__(self, scalars: Mapping[str, float], iteration: int) -> None:
        """Write every scalar."""
        for name, value in scalars.items():
            self._writer.add_scalar(f"losses/{name}" if name.startswith("l_") else name, value, iteration)
        self._writer.flush()

    def image(self, name: str, pixels: np.ndarray, iteration: int) -> None:
        """Write (H, W, C) of uint8."""
        self._writer.add_image(name, pixels, iteration, dataformats="HWC")


class WeightsAndBiases:
    """The same scalars and images for wandb, if it is installed."""

    def __init__(self, project: str, name: str, resume_id: str | None):
        try:
            import wandb
        except ImportError as error:
            raise MissingError(
                "logger.wandb.project is set and wandb is not installed: `pip install wandb`."
            ) from error
        self._image = wandb.Image
        self._run = wandb.init(project=project, name=name, id=resume_id, resume="allow")

    def __call__(self, scalars: Mapping[str, float], iteration: int) -> None:
        """Log every scalar."""
        self._run.log(dict(scalars), step=iteration)

    def image(self, name: str, pixels: np.ndarray, iteration: int) -> None:
        """Log (H, W, C) of uint8."""
        self._run.log({name: self._image(pixels)}, step=iteration)
