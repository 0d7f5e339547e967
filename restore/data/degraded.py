"""Sharp images alone, degraded as they are loaded by any pipeline of `restore.degradations`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from restore.data.augment import Crop
from restore.data.datasets import Cache, Color, PatchDataset, Roots, Storage, references  # noqa: F401 - of inherited fields
from restore.data.sampling import Draw, generator
from restore.degradations import Pipeline, load_pipeline, sample_seed
from restore.errors import DataError
from restore.images import to_pixels, to_tensor
from restore.registry import DATASETS

__all__ = ["DegradedImageDataset"]


@DATASETS.add()
@dataclass(eq=False)
class DegradedImageDataset(PatchDataset):
    """Sharp images, and degraded ones made from them by a pipeline.

    A training patch has parameters of its own, drawn anew each time it is seen. Whole images, for validation and
    evaluation, are degraded the same way each time.

    Args:
        dataroot_gt: folder or folders of the sharp images, or a database.
        pipeline: name of a pipeline (`restore degrade --help`), or a YAML file.
        variables: the pipeline's variables, such as `{quality: 10}`; `scale` is that of the dataset.
        margin_px: pixels of surroundings that are degraded with a training patch and then cut off at random, so that
            the patch does not begin where the blocks of a JPEG do, and has no border that a blur would see.
        io_backend: `{type: disk}` or `{type: lmdb}`.

    Raises:
        OptionsError: no such pipeline, or none of its variables has that name.
        DataError: the pipeline changes the size by another scale.
    """

    dataroot_gt: Roots
    pipeline: str
    variables: dict[str, Any] = field(default_factory=dict)
    margin_px: int = 0
    io_backend: Storage | None = None

    def __post_init__(self):
        super().__post_init__()
        self._degrade = self._loaded()
        if self._degrade.scale != self.scale:
            raise DataError(
                f"dataset '{self.name}': the scale is {self.scale}, but the pipeline {self.pipeline} reduces by "
                f"{self._degrade.scale}. Set scale, or variables.scale."
            )
        self.gt, self.pairs = references(self, self.dataroot_gt, self.io_backend)

    def _loaded(self) -> Pipeline:
        scale = {"scale": self.scale} if self.scale != 1 else {}
        return load_pipeline(self.pipeline, **(scale | self.variables))

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in vars(self).items() if key != "_degrade"}  # which does not travel

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._degrade = self._loaded()

    def __len__(self) -> int:
        return len(self.gt)

    def __getitem__(self, item: int | Draw) -> dict[str, Any]:
        index = item.index if isinstance(item, Draw) else item
        gt, path = self.gt.read(index), self.gt.name(index)
        height, width = (side // self.scale for side in gt.shape[:2])
        if isinstance(item, Draw):
            random = generator(item.seed, item.position)
            patch, symmetry = self.crop(item, random, (height, width), path), self.symmetry(random)
            around = _widened(patch, self.margin_px // self.scale, (height, width), random)
            inner = Crop(patch.top - around.top, patch.left - around.left, patch.height, patch.width)
            sharp = self.channels(around.scaled(self.scale).of(gt))
            lq, gt = self._pair(sharp, sample_seed(item.seed, item.position))
            lq, gt = symmetry.of(inner.of(lq)), symmetry.of(inner.scaled(self.scale).of(gt))
        else:
            sharp = self.channels(Crop(0, 0, height, width).scaled(self.scale).of(gt))
            lq, gt = self._pair(sharp, sample_seed(0, index))
        return {"lq": lq, "gt": gt, "lq_path": path, "gt_path": path}

    def degraded(self, reference: np.ndarray, index: int) -> np.ndarray:
        """The input of a whole reference."""
        height, width = (side // self.scale * self.scale for side in reference.shape[:2])
        lq, _ = self._pair(reference[:height, :width], sample_seed(0, index))
        return lq if reference.ndim == 3 else lq[..., 0]

    def _pair(self, sharp: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """The degraded image, 8 bits deep or float32 as the pipeline has it, and the target, both (H, W, C)."""
        made = self._degrade(to_tensor(sharp), [seed])
        lq = to_pixels(made["lq"], np.uint8) if self._degrade.round else _floats(made["lq"])
        gt = to_pixels(made["gt"], sharp.dtype) if made["parameters"][0]["target"] else sharp
        return _with_channels(lq), _with_channels(gt)


def _with_channels(pixels: np.ndarray) -> np.ndarray:
    return pixels if pixels.ndim == 3 else pixels[..., None]


def _floats(x_BCHW: torch.Tensor) -> np.ndarray:
    """One image as float32, whatever its range."""
    return x_BCHW[0].permute(1, 2, 0).contiguous().numpy()


def _widened(patch: Crop, margin: int, sides: tuple[int, int], random: np.random.Generator) -> Crop:
    """A crop around `patch`, larger by `margin` where the image allows, the patch at a random place in it."""
    starts, stops = [], []
    for start, length, side in zip((patch.top, patch.left), (patch.height, patch.width), sides, strict=True):
        before = int(random.integers(margin, endpoint=True))
        starts.append(max(start - before, 0))
        stops.append(min(start + length + margin - before, side))
    return Crop(*starts, stops[0] - starts[0], stops[1] - starts[1])
