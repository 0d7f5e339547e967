"""A scoring program as on CodaLab and Codabench: INPUT/res and INPUT/ref to OUTPUT/scores.txt and scores.json.

`res` is the submission (its files, or its zip), `ref` the references. A submission that is not exactly what the track
asks for is refused with every reason, and nothing is written. PSNR and SSIM are those of `restore.metrics` under the
track's protocol; a mean over images of images that are all identical to their references is infinite.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from restore.errors import DataError, MissingError, OptionsError
from restore.files import atomic_write, text_of
from restore.images import list_images, read_image, read_size
from restore.leaderboard.archive import Package, open_package, refuse
from restore.leaderboard.checking import (
    OPINIONS,
    README,
    image_problems,
    name_problems,
    read_opinions,
    read_rgb,
    readme_problems,
)
from restore.leaderboard.formulas import PERCEPTUAL, eligible, esr_parts, score_esr, score_perceptual
from restore.leaderboard.matlab import DND_CROPS, SIDD_FILE, read_blocks, read_crops
from restore.leaderboard.readme import Readme
from restore.leaderboard.tracks import Track
from restore.metrics import protocol, psnr, ssim
from restore.metrics.correlation import correlations, plcc
from restore.registry import METRICS

__all__ = ["Scorer", "Scores", "pair_references", "score", "score_program"]


@dataclass
class Scores:
    """What a scorer found.

    Attributes:
        values: figures by name, the one that ranks first.
        images: figures of each image by its name.
        about: the protocol, in words.
    """

    values: dict[str, float]
    images: dict[str, dict[str, float]] = field(default_factory=dict)
    about: str = ""


@dataclass(frozen=True)
class Scorer:
    """How a track is scored.

    Attributes:
        track: the track.
        protocol: name of another protocol than the track's.
        perceptual: also the six measures of the perceptual SR track and their score.
        year: of the efficient SR challenge, for its score.
        cost: `runtime_ms`, `flops_g`, `params_m` of an entry of efficient SR.
        split: which set of efficient SR it is, for the PSNR that an entry must reach.
    """

    track: Track
    protocol: str | None = None
    perceptual: bool = False
    year: int | None = None
    cost: Mapping[str, float] | None = None
    split: str = "valid"

    def __call__(self, package: Package, references: Path) -> Scores:
        """Score a submission.

        Raises:
            DataError: it is not what the track asks for, with every reason; or the references are no references.
        """
        kind = {"images": self._images, "opinions": self._opinions, "sidd": self._sidd, "dnd": self._dnd}
        return kind[self.track.kind](package, references)

    def _images(self, package: Package, folder: Path) -> Scores:
        names = pair_references(self.track, package, folder)
        sizes = {name: self.track.sizes(*read_size(path)) for name, path in names.items()}
        refuse("the submission is refused", self._image_problems(package, sizes))
        arguments = protocol(self.protocol or self.track.protocol)
        prepared = arguments.arguments(self.track.scale)
        perceptual = _perceptual_metrics() if self.perceptual else {}
        images = {}
        for name, path in names.items():
            restored = read_rgb(package, name, sizes[name])
            reference = _reference(path)[: restored.shape[0], : restored.shape[1]]
            images[name] = {
                "psnr": psnr(restored, reference, **prepared),
                "ssim": ssim(restored, reference, **prepared),
                **{label: float(metric(restored, reference)) for label, metric in perceptual.items()},
            }
        values = _means(images)
        if perceptual:
            values = {"perceptual": score_perceptual(values), **values}
        if README in package.names:
            values["runtime"] = Readme.parse(package.text(README)).runtime_s
        return Scores({**self._esr(values), **values}, images, str(arguments))

    def _image_problems(self, package: Package, sizes: Mapping[str, Any]) -> Iterator[str]:
        yield from name_problems(package, sizes, readme=True)
        yield from readme_problems(package)
        yield from image_problems(package, sizes)

    def _esr(self, values: Mapping[str, float]) -> dict[str, float]:
        if self.year is None:
            return {}
        missing = [key for key in ("runtime_ms", "flops_g", "params_m") if key not in (self.cost or {})]
        if missing:
            raise OptionsError(f"the score of efficient SR needs {', '.join(missing)} of the network.")
        cost = (self.cost["runtime_ms"], self.cost["flops_g"], self.cost["params_m"])
        parts = esr_parts(*cost, self.year)
        return {
            "score": score_esr(*cost, year=self.year),
            "eligible": float(eligible({self.split: values["psnr"]}, self.year)),
            **{f"score_{name}": part for name, part in parts.items()},
        }

    def _opinions(self, package: Package, folder: Path) -> Scores:
        refuse(
            "the submission is refused", [*name_problems(package, [OPINIONS], readme=True), *readme_problems(package)]
        )
        given = read_opinions(package.text(OPINIONS))
        wanted = _labels(folder)
        missing, extra = sorted(set(wanted) - set(given)), sorted(set(given) - set(wanted))
        refuse(
            "the submission is refused",
            [f"{name} has no line" for name in missing] + [f"{name} is not an image of this set" for name in extra],
        )
        scores = [given[name] for name in wanted]
        opinions = list(wanted.values())
        found = correlations(scores, opinions)
        fitted = plcc(scores, opinions, fit="logistic4") if len(scores) >= 4 else math.nan
        main = abs(found["srcc"]) + abs(found["plcc"])
        return Scores(
            {"main": main, "srcc": found["srcc"], "plcc": found["plcc"], "krcc": found["krcc"], "plcc_fitted": fitted},
            about="main = |SRCC| + |PLCC| of the raw predictions; plcc_fitted after a 4-parameter logistic",
        )

    def _sidd(self, package: Package, folder: Path) -> Scores:
        refuse("the submission is refused", name_problems(package, [SIDD_FILE], readme=False))
        found = sorted(folder.glob("*.mat"))
        if len(found) != 1:
            raise DataError(f"'{folder}' should hold one .mat file with the clean blocks; it holds {len(found)}.")
        clean = read_blocks(found[0].read_bytes(), found[0].name)
        given = read_blocks(package.read(SIDD_FILE), SIDD_FILE)
        if given.shape != clean.shape:
            raise DataError(f"the submission is refused: its blocks are {given.shape}; expected: {clean.shape}.")
        if given.dtype != clean.dtype:
            raise DataError(f"the submission is refused: its blocks are {given.dtype}; expected: {clean.dtype}.")
        pairs = {f"{i:02}_{b:02}": (given[i, b], clean[i, b]) for i, b in np.ndindex(*clean.shape[:2])}
        return self._pairs(pairs)

    def _dnd(self, package: Package, folder: Path) -> Scores:
        files = {path.name: path for path in sorted(folder.glob("*.mat"))}
        if not files:
            raise DataError(f"'{folder}' holds no .mat files of clean crops ('{DND_CROPS}').")
        refuse("the submission is refused", name_problems(package, files, readme=False))
        pairs = {}
        for name, path in files.items():
            given, clean = read_crops(package.read(name), name), read_crops(path.read_bytes(), path.name)
            if [crop.shape for crop in given] != [crop.shape for crop in clean]:
                raise DataError(f"the submission is refused: the crops of {name} are not of the right sizes.")
            pairs |= {f"{name}:{k}": pair for k, pair in enumerate(zip(given, clean, strict=True), 1)}
        return self._pairs(pairs)

    def _pairs(self, pairs: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Scores:
        measured = protocol(self.protocol or self.track.protocol)
        arguments = measured.arguments()
        images = {
            name: {"psnr": psnr(given, clean, **arguments), "ssim": ssim(given, clean, **arguments)}
            for name, (given, clean) in pairs.items()
        }
        return Scores(_means(images), images, str(measured))


def score(scorer: Scorer, submission: str | Path, references: str | Path) -> Scores:
    """Score a submission (zip or folder) against a folder of references.

    Raises:
        DataError: the submission is refused.
    """
    references = Path(references)
    if not references.is_dir():
        raise DataError(f"there is no folder of references '{references}'.")
    with open_package(submission) as package:
        return scorer(package, references)


def score_program(scorer: Scorer, source: str | Path, output: str | Path) -> Scores:
    """Run as the servers do: read `source/res` and `source/ref`, write `output/scores.txt` and `scores.json`."""
    source, output = Path(source), Path(output)
    scores = score(scorer, source / "res", source / "ref")
    lines = "".join(f"{name}: {figure(value)}\n" for name, value in scores.values.items())
    for name, text in (
        ("scores.txt", lines),
        ("scores.json", _json(scores.values)),
        ("details.json", _details(scores)),
    ):
        with atomic_write(output / name) as file:
            file.write(text.encode())
    return scores


def figure(value: float) -> str:
    """A value as scores.txt holds it."""
    return f"{value:.6f}" if abs(value) < 1e9 or not math.isfinite(value) else f"{value:.6e}"


def pair_references(track: Track, package: Package, folder: Path) -> dict[str, Path]:
    """The reference of each image that a submission should hold, by the name that it has there or should have."""
    found = {}
    for path in list_images(folder):
        candidates = [f"{path.stem}{suffix}.png" for suffix in track.suffixes]
        found[next((name for name in candidates if name in package.names), candidates[0])] = path
    if not found:
        raise DataError(f"there is no reference image in '{folder}'.")
    return found


def _reference(path: Path) -> np.ndarray:
    pixels = read_image(path).pixels
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
        raise DataError(f"the reference '{path}' is not RGB of 8 bit.")
    return pixels


def _means(images: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    labels = next(iter(images.values()))
    return {label: sum(values[label] for values in images.values()) / len(images) for label in labels}


def _labels(folder: Path) -> dict[str, float]:
    """Opinions from every text file of a folder, such as PIPAL's A0001.txt."""
    labels: dict[str, float] = {}
    for path in sorted(folder.glob("*.txt")):
        try:
            found = read_opinions(text_of(path), path.name)
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"cannot read '{path}': {error}.") from error
        if set(found) & set(labels):
            raise DataError(f"{path}: images that another file has labelled already.")
        labels |= found
    if not labels:
        raise DataError(f"'{folder}' holds no text file of lines NAME,SCORE.")
    return labels


def _perceptual_metrics() -> dict[str, Any]:
    """The six measures as pyiqa computes them by default, which is what the organisers call."""
    try:
        return {label: METRICS.bind({"type": f"pyiqa:{label}"}) for label in PERCEPTUAL}
    except MissingError as error:
        raise MissingError(f"the perceptual score needs {', '.join(PERCEPTUAL)}: {error}") from error


def _details(scores: Scores) -> str:
    rows = {name: {label: _plain(value) for label, value in row.items()} for name, row in scores.images.items()}
    return json.dumps({"protocol": scores.about, "images": rows}, indent=1) + "\n"


def _json(values: Mapping[str, float]) -> str:
    return json.dumps({name: _plain(value) for name, value in values.items()}, indent=1) + "\n"


def _plain(value: float) -> float | str:
    """JSON knows no infinity."""
    return value if math.isfinite(value) else str(value)
