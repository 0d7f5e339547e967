"""A quality dataset made from any photographs: distortions of known severity, whose opinion is one minus the severity.

Its labels are an ordering that nobody has judged by eye. It serves to exercise the training of quality models, to warm
them up, and to check that a metric falls when a distortion grows.

    datasets:
      train: {name: ladder, type: SyntheticQualityDataset, dataroot_gt: photos, crop_px: 96}
      val:   {name: ladder, type: SyntheticQualityDataset, dataroot_gt: others, crop_px: 96, between: true}
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import cv2
import numpy as np

from restore.data.complaints import is_gathering
from restore.data.datasets import each_root
from restore.data.fields import Fields
from restore.data.pairs import list_folder
from restore.data.ratings.datasets import RATED, QualityImages
from restore.data.ratings.opinions import distribution_about
from restore.data.sampling import Draw
from restore.data.storage.sources import FileSource, PackedSource, Source
from restore.errors import OptionsError, nearest
from restore.images import to_pixels, to_tensor
from restore.registry import DATASETS, DEGRADATIONS

__all__ = ["DEFAULT_KINDS", "LADDERS", "SyntheticQualityDataset", "distort", "severities"]

Steps = list[dict[str, Any]]


def _between(low: float, high: float, severity: float) -> float:
    """From `low` to `high`, each step the same factor."""
    return low * (high / low) ** severity


def _resampling(severity: float) -> Steps:
    """Reduced and enlarged again; `of_gt` brings the size back exactly."""
    factor = 1 / _between(1.25, 8, severity)
    return [
        {"type": "resize", "factor": factor, "interpolation": "matlab_bicubic"},
        {"type": "resize", "of_gt": 1.0, "interpolation": "matlab_bicubic"},
    ]


def _growing(type: str, parameter: str, low: float, high: float) -> Callable[[float], Steps]:
    return lambda severity: [{"type": type, parameter: _between(low, high, severity)}]


def _shrinking(type: str, high: int, low: int) -> Callable[[float], Steps]:
    return lambda severity: [{"type": type, "quality": round(_between(high, low, severity))}]


def _pixelation(severity: float) -> Steps:
    """Square cells of one colour."""
    return [
        {"type": "resize", "factor": 1 / _between(1.5, 12, severity), "interpolation": "area"},
        {"type": "resize", "of_gt": 1.0, "interpolation": "nearest"},
    ]


def _motion(severity: float) -> Steps:
    """A path that fills an odd number of pixels."""
    return [{"type": "motion_blur", "size": 2 * round(_between(1, 12, severity)) + 1}]


def _masking(severity: float) -> Steps:
    """One black box."""
    return [{"type": "inpainting_mask", "shape": "box", "amount": _between(0.01, 0.4, severity)}]


def _quantisation(severity: float) -> Steps:
    """Few values for each colour."""
    return [{"type": "quantise", "levels": round(_between(40, 2, severity))}]


LADDERS: dict[str, Callable[[float], Steps]] = {
    "blur": _growing("gaussian_blur", "sigma", 0.5, 6.0),
    "defocus": _growing("defocus_blur", "radius_px", 0.8, 9.0),
    "jpeg": _shrinking("jpeg", 90, 4),
    "noise": _growing("gaussian_noise", "sigma", 3.0, 75.0),
    "resampling": _resampling,
    "salt_pepper": _growing("salt_pepper_noise", "amount", 0.002, 0.2),
    "speckle": _growing("speckle_noise", "sigma", 6.0, 150.0),
    "webp": _shrinking("webp", 85, 1),
    "camera_noise": _growing("camera_noise", "shot", 0.0005, 0.1),
    "contrast_loss": _growing("contrast", "factor", 0.85, 0.06),
    "correlated_noise": _growing("correlated_noise", "sigma", 5.0, 110.0),
    "haze": _growing("haze", "thickness", 0.15, 3.5),
    "jpeg2000": _growing("jpeg2000", "ratio", 8.0, 100.0),
    "masking": _masking,
    "motion": _motion,
    "over_exposure": _growing("exposure", "stops", 0.4, 4.5),
    "over_sharpening": _growing("usm", "weight", 0.3, 6.0),
    "pixelation": _pixelation,
    "quantisation": _quantisation,
    "rain": _growing("rain_streaks", "density", 0.0003, 0.02),
    "ringing": _growing("ringing", "cutoff", 0.8, 0.1),
    "saturation_loss": _growing("saturation", "factor", 0.85, 0.03),
    "shot_noise": _growing("poisson_noise", "peak", 600.0, 3.0),
    "under_exposure": _growing("low_light", "exposure", 0.7, 0.01),
}
"""Distortions by name: from a severity in (0, 1] to the steps that make it. At severity 0 nothing happens."""
DEFAULT_KINDS = ("blur", "defocus", "jpeg", "noise", "resampling", "salt_pepper", "speckle", "webp")


def severities(num_levels: int, *, between: bool = False) -> list[float]:
    """The levels 1/n, 2/n, ..., 1 of a ladder, with 0 before them, or the values halfway between all these."""
    steps = [level / num_levels for level in range(num_levels + 1)]
    return [(low + high) / 2 for low, high in itertools.pairwise(steps)] if between else steps


def distort(pixels: np.ndarray, kind: str, severity: float, *, seed: int = 0) -> np.ndarray:
    """`pixels` (H, W, 3) uint8 with a distortion of the given severity; the same for the same seed."""
    x_BCHW = to_tensor(pixels)
    if severity > 0:
        for step in LADDERS[kind](severity):
            component = DEGRADATIONS.get(step["type"])
            facts = {"seed": seed, "gt_px": pixels.shape[:2]}
            fields = component.__dataclass_fields__
            known = {key: value for key, value in facts.items() if key in fields}
            arguments = {key: value for key, value in step.items() if key != "type"}
            x_BCHW = component(**arguments, **known)(x_BCHW)
    return to_pixels(x_BCHW.clamp(0, 1), np.uint8)


@DATASETS.add()
@dataclass(eq=False, kw_only=True)
class SyntheticQualityDataset(QualityImages):
    """Every photograph with every distortion at every level of a ladder.

    Training draws crops, and noise anew each time; validation takes the centre of each photograph and is repeatable.

    Args:
        dataroot_gt: folder or folders of photographs.
        kinds: names of distortions, or "all"; None for those of noise, blur and compression that iqt_small knows.
        num_levels: steps of the ladder.
        between: take the severities between the steps instead, which a model trained on the steps has never seen.
        max_images: take no more than this many photographs, evenly spread over the sorted files.
        grey: in training, the share of photographs that are turned grey before they are distorted, unless that loses
            colour: so a grey photograph is not taken for one that has lost its colour.
        cache: `packed` decodes every photograph once into a memory-mapped file.
        cache_root: where packs are kept; by default with the other caches.

    Raises:
        DataError: a folder without photographs.
        OptionsError: a distortion that does not exist, or a share that is not in [0, 1].
    """

    fields: ClassVar[Fields] = {**RATED, "reference": "image"}

    dataroot_gt: str | list[str]
    kinds: Sequence[str] | Literal["all"] | None = None
    num_levels: int = 5
    between: bool = False
    max_images: int | None = None
    grey: float = 0.0
    cache: str = "none"
    cache_root: str | None = None

    def __post_init__(self):
        kinds = list(LADDERS if self.kinds == "all" else self.kinds or DEFAULT_KINDS)
        for kind in kinds:
            if kind not in LADDERS:
                raise OptionsError(f"unknown distortion '{kind}'.{nearest(kind, LADDERS)} Known: {', '.join(LADDERS)}.")
        if not 0 <= self.grey <= 1:
            raise OptionsError(f"grey is {self.grey}: it is a share, from 0 to 1.")
        paths = [path for root in each_root(self.dataroot_gt) for path in list_folder(self.name, root, "dataroot_gt")]
        if self.max_images is not None and len(paths) > self.max_images:
            paths = [paths[number * len(paths) // self.max_images] for number in range(self.max_images)]
        self.source = self._files(paths)
        levels = severities(self.num_levels, between=self.between)
        rungs = [(kind, severity) for kind in kinds for severity in levels if severity > 0]
        rungs += [(kinds[0], 0.0)] if levels[0] == 0 else []
        self.rungs = rungs
        self.scenes = [self.source.name(image) for image in range(len(self.source)) for _ in rungs]

    def __len__(self) -> int:
        return len(self.source) * len(self.rungs)

    @property
    def showing_every_file(self) -> Sequence[int]:
        """Samples that between them show every photograph; a check reads no others."""
        return range(0, len(self), len(self.rungs))

    def _files(self, paths: Sequence[Path]) -> Source:
        if self.cache == "packed" and not is_gathering():  # a check reads the files themselves
            return PackedSource(paths, self.cache_root)
        return FileSource(paths)

    def _is_turned_grey(self, item: Draw, kind: str) -> bool:
        return kind != "saturation_loss" and np.random.default_rng([item.seed, item.position]).random() < self.grey

    def __getitem__(self, item: int | Draw) -> dict[str, Any]:
        index = item.index if isinstance(item, Draw) else item
        image, rung = divmod(index, len(self.rungs))
        kind, severity = self.rungs[rung]
        path = self.source.name(image)
        (photograph,) = self.seen(item, [self.source.read(image)], path)
        reference = to_pixels(to_tensor(np.ascontiguousarray(photograph)), np.uint8)
        if isinstance(item, Draw) and self._is_turned_grey(item, kind):
            reference = cv2.cvtColor(cv2.cvtColor(reference, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
        opinion = 1 - severity
        return {
            "image": distort(reference, kind, severity, seed=item.position if isinstance(item, Draw) else index),
            "reference": reference,
            "opinion": opinion,
            "distribution": distribution_about(opinion),
            "image_path": f"{path} ({kind}, severity {severity:g})",
        }
