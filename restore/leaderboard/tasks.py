"""What there is to do for a submission, one item at a time: images to restore, or images to judge.

A task names its items, does one of them, says which files go into the zip, and what is wrong with a zip of them.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from restore.errors import DataError
from restore.images import list_images, read_image, read_size, to_pixels, to_tensor
from restore.inference import Restorer
from restore.inference.folder import restore_files
from restore.jobs import Job, plan_jobs
from restore.leaderboard.archive import Package, refuse
from restore.leaderboard.checking import OPINIONS, image_problems, name_problems, read_opinions, readme_problems
from restore.leaderboard.tracks import Track
from restore.metrics import traits

__all__ = ["ImageTask", "OpinionTask", "Records", "Task", "reference_of"]

Records = Mapping[str, Mapping[str, Any]]
_PIPAL = re.compile(r"(.+)_\d\d_\d\d")


class Task(ABC):
    """The work behind a submission."""

    names: list[str]

    @abstractmethod
    def do(self, name: str) -> dict[str, Any]:
        """Do one item and keep its result; returns what its record should hold besides times.

        Raises:
            RestoreError: it cannot be done.
        """

    @abstractmethod
    def is_kept(self, name: str) -> bool:
        """Whether the result of an item with a record is still there."""

    @abstractmethod
    def files(self, records: Records) -> dict[str, Path | bytes]:
        """The files of the zip, but for the readme."""

    @abstractmethod
    def problems(self, package: Package) -> Iterator[str]:
        """What is wrong with a package that should hold this submission."""


class ImageTask(Task):
    """Restores the images of a folder; the results have the names of the inputs.

    Args:
        track: what kind of challenge.
        restorer: the model.
        source: folder of the inputs.
        output: folder of the results.
        split: the official set that the folder must hold, if any.

    Raises:
        DataError: the inputs are not what the track takes; names all of them.
    """

    def __init__(self, track: Track, restorer: Restorer, source: Path, output: Path, split: str | None = None):
        if restorer.scale != track.scale:
            raise DataError(f"the track {track.name} enlarges {track.scale} times, the model {restorer.scale} times.")
        self._track, self._restorer = track, restorer
        self._jobs = {job.target.name: job for job in plan_jobs(source, output, ext="png")}
        self.names = sorted(self._jobs)
        self._sizes = {name: read_size(job.source) for name, job in self._jobs.items()}
        if split:
            _require_split(track, split, set(self.names))

    def do(self, name: str) -> dict[str, Any]:
        """Restore one image, as a batch of its own."""
        job = self._jobs[name]
        _require_rgb(job)
        (outcome,) = restore_files([job], self._restorer)
        if outcome.error:
            raise DataError(outcome.error)
        return {}

    def is_kept(self, name: str) -> bool:
        """Whether the restored image is there."""
        return self._jobs[name].target.is_file()

    def files(self, records: Records) -> dict[str, Path | bytes]:
        """The restored images."""
        return {name: job.target for name, job in self._jobs.items()}

    def problems(self, package: Package) -> Iterator[str]:
        """Names, count, exact sizes, mode, depth, readme."""
        scale = self._track.scale
        wanted = {name: [(height * scale, width * scale)] for name, (height, width) in self._sizes.items()}
        yield from name_problems(package, wanted, readme=self._track.readme)
        yield from image_problems(package, wanted)
        yield from readme_problems(package)


class OpinionTask(Task):
    """Judges the images of a folder with a metric, with their references where it needs them.

    The scores are written so that higher is better: those of a metric of which lower is better change their sign.

    Args:
        metric: as `METRICS.bind` returns it.
        source: folder of the distorted images.
        references: folder of the references.

    Raises:
        DataError: there are no images, or references are needed and missing; names all of them.
    """

    def __init__(self, metric: Callable[..., Any], source: Path, references: Path | None = None):
        self._metric = metric
        self._paths = {path.name: path for path in list_images(source)}
        if not self._paths:
            raise DataError(f"there is no image in '{source}'.")
        self.names = sorted(self._paths)
        self._references: dict[str, Path] = {}
        if traits(metric).needs_reference:
            self._references = _references(self._paths, references)

    def do(self, name: str) -> dict[str, Any]:
        """Judge one image."""
        path, reference = self._paths[name], self._references.get(name)
        score = float(self._metric(_rgb(path), _rgb(reference) if reference else None))
        if not np.isfinite(score):
            raise DataError(f"'{path}': its score is {score}, which no server takes.")
        return {"score": score if traits(self._metric).higher_is_better else -score}

    def is_kept(self, name: str) -> bool:
        """The score is in the record itself."""
        return True

    def files(self, records: Records) -> dict[str, Path | bytes]:
        """output.txt: a line for each image, sorted, with six decimals."""
        lines = [f"{name},{records[name]['score']:.6f}\n" for name in self.names]
        return {OPINIONS: "".join(lines).encode()}

    def problems(self, package: Package) -> Iterator[str]:
        """The files, and that the lines are exactly those of the images, sorted."""
        yield from name_problems(package, [OPINIONS], readme=True)
        yield from readme_problems(package)
        if OPINIONS not in package.names:
            return
        listed = list(read_opinions(package.text(OPINIONS)))
        missing, extra = set(self.names) - set(listed), set(listed) - set(self.names)
        if missing or extra:
            yield f"{OPINIONS}: {len(missing)} images have no line, {len(extra)} lines have no image"
        elif listed != self.names:
            yield f"{OPINIONS} is not sorted"


def reference_of(name: str, references: Mapping[str, Path]) -> Path | None:
    """The reference of a distorted image: PIPAL's `A0001_00_00` belongs to `A0001`, others to their own name."""
    stem = Path(name).stem
    match = _PIPAL.fullmatch(stem)
    return references.get(match[1] if match else stem) or references.get(stem)


def _references(paths: Mapping[str, Path], folder: Path | None) -> dict[str, Path]:
    if folder is None:
        raise DataError("this metric compares with references: give their folder with --reference.")
    by_stem = {path.stem: path for path in list_images(folder)}
    found = {name: reference_of(name, by_stem) for name in paths}
    refuse(
        f"references are missing in '{folder}'", [f"of {name}" for name, reference in found.items() if not reference]
    )
    return {name: reference for name, reference in found.items() if reference}


def _require_split(track: Track, split: str, names: set[str]) -> None:
    official = track.split(split)
    problems = [f"{name} is missing" for name in sorted(official - names)]
    problems += [f"{name} is not part of it" for name in sorted(names - official)]
    refuse(f"the inputs are not the set '{split}' of {track.name} ({len(official)} images)", problems)


def _require_rgb(job: Job) -> None:
    pixels = read_image(job.source).pixels
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        channels = 1 if pixels.ndim == 2 else pixels.shape[2]
        raise DataError(
            f"'{job.source}' has {channels} channels of {pixels.dtype}: the track takes RGB of 8 bit. Convert it "
            "first; nothing is converted here, since the servers compare every value."
        )


def _rgb(path: Path) -> np.ndarray:
    """The pixels of a file as 8-bit RGB, which is what the lists of opinions were made of."""
    pixels = read_image(path, unit=True).pixels
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[..., None], 3, axis=2)
    elif pixels.shape[2] == 2:
        pixels = np.repeat(pixels[..., :1], 3, axis=2)
    pixels = np.ascontiguousarray(pixels[..., :3])
    return pixels if pixels.dtype == np.uint8 else to_pixels(to_tensor(pixels))
