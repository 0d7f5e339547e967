"""Search images for defects and write what was found: defects.json, defects.csv and defects.html.

A file that cannot be read is recorded, and the others go on.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from restore.detection import Detector, Finding
from restore.errors import ImageError
from restore.evaluation.defects.page import Shown, render
from restore.files import atomic_write, encoded
from restore.images import read_image
from restore.inference.finding import find
from restore.locks import reserved
from restore.terminal import csv_text, open_console

__all__ = ["Searched", "search"]

MOST_SHOWN = 40


@dataclass
class Searched:
    """What a search found.

    Attributes:
        kinds: which defects the detector knows.
        findings: of each image, by its name, the surest first.
        sizes: height and width of each.
        failed: why an image could not be searched, by its name.
        min_score: how sure a finding is at least.
    """

    kinds: Sequence[str]
    min_score: float
    findings: dict[str, list[Finding]] = field(default_factory=dict)
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def counts(self, name: str) -> dict[str, int]:
        """How many of each kind are in an image."""
        kinds = [each.kind for each in self.findings[name]]
        return {kind: kinds.count(kind) for kind in self.kinds}

    @property
    def ranked(self) -> list[str]:
        """The images, those with the most findings first."""
        return sorted(self.findings, key=lambda name: (-len(self.findings[name]), name))

    def as_dict(self) -> dict[str, Any]:
        """What defects.json holds: boxes are left, top, right and bottom in pixels."""
        images = {
            name: {
                "size": list(self.sizes[name]),
                "defects": [
                    {"kind": kind, "score": round(score, 4), "box": [round(side, 1) for side in box]}
                    for kind, box, score in findings
                ],
            }
            for name, findings in self.findings.items()
        }
        return {"kinds": list(self.kinds), "min_score": self.min_score, "images": images, "failed": self.failed}

    def as_csv(self) -> str:
        """A row for each defect."""
        rows: list[Sequence[Any]] = [("image", "kind", "score", "left", "top", "right", "bottom")]
        for name, findings in self.findings.items():
            rows += [(name, kind, f"{score:.4f}", *(f"{side:.1f}" for side in box)) for kind, box, score in findings]
        return csv_text(rows)


def search(
    detector: Detector,
    images: Mapping[str, Path],
    output: Path,
    *,
    title: str = "defects",
    min_score: float = 0.3,
    kinds: Sequence[str] | None = None,
    progress: bool = False,
) -> Searched:
    """Search every image and write defects.json, defects.csv and defects.html into `output`.

    Args:
        detector: what finds.
        images: files by the names that are shown.
        output: folder.
        title: of the page.
        min_score: how sure a finding is at least, in [0, 1].
        kinds: which kinds are kept; None for all.
        progress: show a progress bar on a terminal.

    Raises:
        OutputError: something cannot be written, or another process writes there.
    """
    kept = [kind for kind in detector.kinds if kinds is None or kind in kinds]
    found = Searched(kept, min_score)
    shown: dict[str, Shown] = {}
    with reserved(output):
        for name, path in _tracked(images, progress):
            try:
                pixels = read_image(path, unit=True).pixels
            except ImageError as error:
                found.failed[name] = str(error)
                continue
            each = [one for one in find(detector, pixels, min_score=min_score) if one.kind in kept]
            found.findings[name], found.sizes[name] = each, (pixels.shape[0], pixels.shape[1])
            if len(shown) < MOST_SHOWN:
                shown[name] = Shown.of(pixels, each)
        files = {
            "defects.json": json.dumps(found.as_dict(), indent=1) + "\n",
            "defects.csv": found.as_csv(),
            "defects.html": render(found, shown, title),
        }
        for file_name, text in files.items():
            with atomic_write(output / file_name) as file:
                file.write(encoded(text))
    return found


def _tracked(images: Mapping[str, Path], progress: bool) -> Iterator[tuple[str, Path]] | Iterable[tuple[str, Path]]:
    if not progress or not sys.stderr.isatty():
        return images.items()
    from rich.progress import track

    console = open_console(stderr=True)
    return track(images.items(), "searching", total=len(images), auto_refresh=False, console=console, transient=True)
