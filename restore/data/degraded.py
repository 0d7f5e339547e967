"""Inputs made from sharp images by a degradation recipe, in the workers that load them.

Everything random about a training sample follows from the seed of the run and its position in it, everything about a
validation image from a fixed seed and its name: both are the same in every process, order and resumed run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from restore.data.augment import random_crop
from restore.data.datasets import Cache, Color, PatchDataset, Roots, Storage, references  # noqa: F401 - of inherited fields
from restore.data.pairs import Pair
from restore.data.sampling import Draw, generator
from restore.degradations import Pipeline, crop_pairs, load_pipeline, sample_seed
from restore.errors import DataError, ImageError
from restore.images import to_pixels, to_tensor
from restore.registry import DATASETS

__all__ = ["DegradedImageDataset", "SharpImageDataset", "load_recipe"]


@dataclass(eq=False)
class SharpImageDataset(PatchDataset):
    """References alone: patches that are to be degraded, each with the seed of its degradation.

    Args:
        dataroot_gt: folder or folders of the references, or databases.
        meta_info: list of the references to take, one for each folder; the first word of each line is a path relative
            to `dataroot_gt`.
        meta_info_file: HAT's name for `meta_info`.
        io_backend: `{type: disk}` or `{type: lmdb}`.
        crop_pad_size: side of the patch that is degraded, from which one of `gt_size` is cut afterwards, so that
            patches have no borders but those that they got by chance; smaller images are mirrored at their bottom and
            right to fill it. By default `gt_size`, and smaller images are errors.
    """

    dataroot_gt: Roots
    meta_info: Roots | None = None
    meta_info_file: Roots | None = None
    io_backend: Storage | None = None
    crop_pad_size: int | None = None

    def __post_init__(self):
        super().__post_init__()
        if (self.crop_pad_size or self.scale) % self.scale:
            raise DataError(
                f"dataset '{self.name}': crop_pad_size {self.crop_pad_size} is not divisible by the scale {self.scale}."
            )
        lists = self.meta_info or self.meta_info_file
        self.gt, self._files = references(self, self.dataroot_gt, self.io_backend, lists)

    def __len__(self) -> int:
        return len(self.gt)

    @property
    def pairs(self) -> list[Any]:
        """Never: an evaluation would make inputs of its own.

        Raises:
            DataError: always; says what to do.
        """
        raise DataError(
            f"dataset '{self.name}': its inputs are made as they are loaded, for training and validation. For a test, "
            "write them with `restore degrade`, and name both folders in a PairedImageDataset."
        )

    def sharp_patch(self, draw: Draw) -> tuple[np.ndarray, int]:
        """The patch to be degraded, (H, W, C), and the seed of its degradation."""
        side = max(self.crop_pad_size or 0, draw.patch_px or self.gt_size or 0)
        if not side:
            raise DataError(f"dataset '{self.name}': gt_size is needed for training.")
        pixels = self.gt.read(draw.index)
        height, width = pixels.shape[:2]
        if min(height, width) < side != self.crop_pad_size:
            raise DataError(
                f"dataset '{self.name}': {self.gt.name(draw.index)} is {width}x{height}, smaller than the patch of "
                f"{side}x{side}. Remove it, lower gt_size, or have it mirrored with crop_pad_size: {side}."
            )
        random = generator(draw.seed, draw.position)
        crop = random_crop(random, max(height, side), max(width, side), side)
        patch = self.symmetry(random).of(_filled(self.channels(crop.of(pixels)), side))
        return patch, sample_seed(draw.seed, draw.position)


@DATASETS.add()
@dataclass(eq=False)
class DegradedImageDataset(SharpImageDataset):
    """References, and inputs made from them by a recipe: `realesrgan`, `bsrgan`, `swinir_real` and the like.

    Whole images, for validation and evaluation, are degraded as `restore degrade --seed SEED` degrades them.

    Args:
        recipe: name of a recipe, or path of a YAML file.
        variables: values for the variables of the recipe, such as `{sigma: 25}`; `scale` is set by itself.
        seed: of whole images.
    """

    recipe: str = "realesrgan"
    variables: dict[str, Any] | None = None
    seed: int = 0

    def __post_init__(self):
        super().__post_init__()
        self.pipeline = load_recipe(self.recipe, self.scale, self.variables)

    @property
    def pairs(self) -> list[Pair]:
        """The references; `degraded` makes their inputs."""
        return self._files

    def degraded(self, reference: np.ndarray, index: int) -> np.ndarray:
        """The input of a whole reference."""
        lq, _ = self._pair(self._divisible(reference), self._whole_seed(index), index)
        lq = self._stored_input(lq)
        return lq.reshape(lq.shape[: reference.ndim])

    def __getitem__(self, item: int | Draw) -> dict[str, Any]:
        if isinstance(item, Draw):
            index, (sharp, seed) = item.index, self.sharp_patch(item)
            side = item.patch_px or self.gt_size or self.crop_pad_size
            pair = crop_pairs(*self._pair(sharp, seed, index), side, self.scale, [sample_seed(seed, "crop")])
        else:
            index, sharp = item, self._divisible(self.channels(self.gt.read(item)))
            pair = self._pair(sharp, self._whole_seed(index), index)
        path = self.gt.name(index)
        lq, gt = self._stored_input(pair[0]), _stored(pair[1], sharp.dtype.type)
        return {"lq": lq, "gt": gt, "lq_path": path, "gt_path": path}

    def _pair(self, sharp: np.ndarray, seed: int, index: int) -> tuple[Tensor, Tensor]:
        """Input and target, (1, C, H, W)."""
        try:
            pairs = self.pipeline(to_tensor(np.ascontiguousarray(sharp)), [seed])
        except ImageError as error:
            raise DataError(f"dataset '{self.name}': {self.gt.name(index)}: {error}") from error
        return pairs["lq"], pairs["gt"]

    def _stored_input(self, lq_BCHW: Tensor) -> np.ndarray:
        return _stored(lq_BCHW, np.uint8 if self.pipeline.round else np.float32)

    def _divisible(self, pixels: np.ndarray) -> np.ndarray:
        height, width = (length // self.scale * self.scale for length in pixels.shape[:2])
        return pixels[:height, :width]

    def _whole_seed(self, index: int) -> int:
        return sample_seed(self.seed, Path(self.gt.name(index)).stem, 0)


def load_recipe(recipe: str, scale: int, variables: Mapping[str, Any] | None = None) -> Pipeline:
    """A degradation recipe at the scale of an option file.

    Args:
        recipe: name, or path of a YAML file.
        scale: set as the recipe's variable `scale`, where it is not its own already.
        variables: values for its other variables.

    Raises:
        OptionsError: no such recipe or variable, or one that cannot have this scale.
    """
    pipeline = load_pipeline(recipe, **(variables or {}))
    return pipeline if pipeline.scale == scale else load_pipeline(recipe, **(variables or {}), scale=scale)


def _filled(pixels: np.ndarray, side: int) -> np.ndarray:
    """`pixels` mirrored at the bottom and right to at least `side` x `side`."""
    missing = [(0, max(side - length, 0)) for length in pixels.shape[:2]]
    return np.pad(pixels, [*missing, (0, 0)], mode="reflect") if any(map(any, missing)) else pixels


def _stored(x_BCHW: Tensor, dtype: Any) -> np.ndarray:
    """One image as (H, W, C); noise that is kept as float is not clipped."""
    if dtype is np.float32:
        return x_BCHW[0].permute(1, 2, 0).numpy()
    pixels = to_pixels(x_BCHW, dtype)
    return pixels if pixels.ndim == 3 else pixels[..., None]
