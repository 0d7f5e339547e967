"""Gaussian denoising: clean images, noise drawn as they are loaded, with Restormer's option names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from restore.data.datasets import Cache, Color, PatchDataset, Roots, Storage, references  # noqa: F401 - of inherited fields
from restore.data.sampling import Draw, generator
from restore.degradations.operators.noise import EvaluationNoise
from restore.errors import DataError
from restore.images import convert_depth, to_tensor
from restore.registry import DATASETS

__all__ = ["GaussianNoiseDataset"]


@DATASETS.add("GaussianNoiseDataset", "Dataset_GaussianDenoising")
@dataclass(eq=False)
class GaussianNoiseDataset(PatchDataset):
    """Clean images and the same with white Gaussian noise, which is neither clipped nor rounded.

    Args:
        dataroot_gt: folder or folders of the clean images, or databases.
        meta_info_file: list of the images to take, one for each folder.
        dataroot_lq, filename_tmpl: not used; in Restormer's files they say `none` and `{}`.
        io_backend: `{type: disk}` or `{type: lmdb}`.
        sigma_type: how the noise level of a training patch is drawn: `constant` (`sigma_range` is one value), `random`
            (uniform between two values), or `choice` (one of several).
        sigma_range: noise levels, on the scale of 0 to 255.
        sigma_test: noise level in validation and evaluation, where the noise is that of published figures: NumPy's
            legacy generator with seed 0 for every image.
        in_ch: channels: 3, or 1 for grey.
    """

    dataroot_gt: Roots
    dataroot_lq: str | None = None
    filename_tmpl: str = "{}"
    meta_info_file: Roots | None = None
    io_backend: Storage | None = None
    sigma_type: Literal["constant", "random", "choice"] = "random"
    sigma_range: float | list[float] = (0, 55)
    sigma_test: float = 25
    in_ch: Literal[1, 3] = 3

    def __post_init__(self):
        super().__post_init__()
        if self.scale != 1:
            raise DataError(f"dataset '{self.name}': denoising does not change the size; scale is {self.scale}.")
        self._levels = np.atleast_1d(np.asarray(self.sigma_range, np.float64))
        wanted = {"constant": 1, "random": 2}.get(self.sigma_type)
        if wanted not in (None, len(self._levels)):
            raise DataError(
                f"dataset '{self.name}': sigma_type {self.sigma_type} needs {wanted} value(s) in sigma_range, "
                f"not {len(self._levels)}."
            )
        if self.in_ch == 1:
            self.color = self.color or "grey"
        self.gt, self.pairs = references(self, self.dataroot_gt, self.io_backend, self.meta_info_file)

    def __len__(self) -> int:
        return len(self.gt)

    def __getitem__(self, item: int | Draw) -> dict[str, Any]:
        index = item.index if isinstance(item, Draw) else item
        gt, path = self.gt.read(index), self.gt.name(index)
        if isinstance(item, Draw):
            random = generator(item.seed, item.position)
            crop, symmetry = self.crop(item, random, gt.shape, path), self.symmetry(random)
            clean = symmetry.of(self.channels(crop.of(gt)))
            sigma = self._draw_sigma(random)
            noise = random.standard_normal(clean.shape, np.float32) * np.float32(sigma / 255)
            noisy = convert_depth(clean, np.float32).reshape(clean.shape) + noise
        else:
            clean = self.channels(gt)
            noisy = self.degraded(clean, index)
        return {"lq": noisy, "gt": clean, "lq_path": path, "gt_path": path}

    def degraded(self, reference: np.ndarray, index: int) -> np.ndarray:
        """A whole image with the noise of published figures, float32, neither clipped nor rounded."""
        noisy_BCHW = EvaluationNoise(sigma=self.sigma_test)(to_tensor(reference))
        return noisy_BCHW[0].permute(1, 2, 0).numpy().reshape(reference.shape)

    def _draw_sigma(self, random: np.random.Generator) -> float:
        if self.sigma_type == "random":
            return float(random.uniform(*self._levels))
        return float(random.choice(self._levels))
