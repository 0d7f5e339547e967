"""The folder of a submission in the making: what is done stays done, and nothing of another run slips in.

    run.json         what is submitted: track, model, settings, inputs
    progress.jsonl   a line for each finished image: its times and memory
    images/ ...      the results

A result counts as finished when its line is there, and a line is written after its result, so a process that dies at
any moment loses one image at most.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from restore.errors import OutputError
from restore.files import atomic_write

__all__ = ["WorkFolder"]


class WorkFolder:
    """Keeps records by name, on the disk as soon as they are added.

    Args:
        path: the folder; made if it is not there.
        identity: what makes this run what it is. Those of a folder that is gone on with must be the same.

    Attributes:
        records: what is known of each finished item.

    Raises:
        OutputError: the folder belongs to another run; the message says in what they differ.
    """

    def __init__(self, path: str | Path, identity: dict[str, Any]):
        self.path = Path(path)
        self.records: dict[str, dict[str, Any]] = {}
        self._progress = self.path / "progress.jsonl"
        self._claim(json.loads(json.dumps(identity)))
        if self._progress.is_file():
            self._load()

    def add(self, name: str, record: dict[str, Any]) -> None:
        """Note that `name` is finished."""
        self.records[name] = record
        with self._progress.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"name": name, **record}) + "\n")

    def write(self, name: str, content: str | bytes) -> Path:
        """Write a file of the folder."""
        path = self.path / name
        with atomic_write(path) as file:
            file.write(content.encode() if isinstance(content, str) else content)
        return path

    def _claim(self, identity: dict[str, Any]) -> None:
        about = self.path / "run.json"
        if about.is_file():
            try:
                before = json.loads(about.read_text(encoding="utf-8"))
            except ValueError:
                before = {}
            other = [key for key in {**before, **identity} if before.get(key) != identity.get(key)]
            if other:
                raise OutputError(
                    f"'{self.path}' holds a submission of something else: {', '.join(other)} differ. "
                    "Choose another folder with -o, or remove that one."
                )
        elif self.path.is_dir() and any(path.name != ".lock" for path in self.path.iterdir()):
            raise OutputError(f"'{self.path}' holds other files. Choose an empty or a new folder with -o.")
        self.write("run.json", json.dumps(identity, indent=2) + "\n")

    def _load(self) -> None:
        """Take up the lines that are whole; the last one may have been cut off."""
        lines = self._progress.read_text(encoding="utf-8", errors="replace").splitlines()
        for line in lines:
            try:
                record = json.loads(line)
                if "peak_mb" in record:  # as it was called when an older version wrote the line
                    record["peak_mib"] = record.pop("peak_mb")
                self.records[record.pop("name")] = record
            except (ValueError, KeyError, AttributeError):
                continue
        kept = [json.dumps({"name": name, **record}) for name, record in self.records.items()]
        self.write("progress.jsonl", "".join(f"{line}\n" for line in kept))
