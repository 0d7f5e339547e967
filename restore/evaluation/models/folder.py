"""results/NAME: where the files of an evaluation go, as BasicSR lays them out.

results/NAME/visualization/DATASET/IMAGE_NAME.png
results/NAME/{results.json, metrics.csv, report.html, options.yml, test_NAME_TIME.log}
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator
from pathlib import Path

from restore.errors import OutputError
from restore.files import atomic_write, encoded, expanded, inside

__all__ = ["ResultsFolder"]


class ResultsFolder:
    """A fresh folder for results; an existing one of that name is kept as NAME_archived_TIME.

    Args:
        root: folder of all results.
        name: name of the run.

    Raises:
        OutputError: it cannot be made.
    """

    def __init__(self, root: str | Path, name: str):
        self.path = expanded(root) / name
        self._time = time.strftime("%Y%m%d_%H%M%S")
        self._name = name
        try:
            if self.path.exists():
                archive = self._archive()
                self.path.rename(archive)
                logging.getLogger(__name__).info("%s exists: it is now %s", self.path, archive)
            self.path.mkdir(parents=True)
        except OSError as error:
            raise OutputError(f"cannot make the folder '{self.path}': {error.strerror or error}") from error

    def image(self, dataset: str, name: str, suffix: str | None) -> Path:
        """Where a restored image goes.

        Raises:
            OutputError: the names lead out of the folder.
        """
        return inside(self.path / "visualization", dataset, f"{name}_{suffix or self._name}.png")

    def write(self, name: str, text: str) -> None:
        """Write a text file, whole or not at all."""
        with atomic_write(self.path / name) as file:
            file.write(encoded(text))

    @contextlib.contextmanager
    def log(self) -> Iterator[None]:
        """Write what the package logs to test_NAME_TIME.log as well."""
        logger = logging.getLogger("restore")
        handler = logging.FileHandler(
            self.path / f"test_{self._name}_{self._time}.log", encoding="utf-8", errors="backslashreplace"
        )
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s: %(message)s"))
        level = logger.level
        if logger.getEffectiveLevel() > logging.INFO:
            logger.setLevel(logging.INFO)
        logger.addHandler(handler)
        try:
            yield
        finally:
            logger.removeHandler(handler)
            logger.setLevel(level)
            handler.close()

    def _archive(self) -> Path:
        archive, number = self.path.with_name(f"{self._name}_archived_{self._time}"), 2
        while archive.exists():
            archive = self.path.with_name(f"{self._name}_archived_{self._time}_{number}")
            number += 1
        return archive
