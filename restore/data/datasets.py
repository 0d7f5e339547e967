"""Datasets of low-level vision, by BasicSR's names and options.

A dataset answers to two kinds of index. A `Draw` is a training sample: a random crop and symmetry from the draw's own
generator. An `int` is a whole image, for validation. Either way the sample is `{"lq", "gt", "lq_path", "gt_path"}` with
images as numpy arrays (H, W, C); batches are made of them by `restore.data.loading`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from torch.utils.data import Dataset

from restore.data.augment import Crop, Symmetry, random_crop
from restore.data.pairs import Pair, list_folder, list_pairs
from restore.data.sampling import Draw, generator
from restore.data.sources import FileSource, PackedSource, Source, channels_of
from restore.errors import DataError
from restore.registry import DATASETS

__all__ = ["DownsampledImageDataset", "PairedImageDataset"]

Color = Literal["rgb", "y", "grey"]
Cache = Literal["none", "packed"]
Roots = str | list[str]


class _PairDataset(Dataset):
    """Crops, symmetries and channels: what every dataset of pairs shares."""

    def __init__(self, name: str, scale: int, gt_size: int | None, use_hflip: bool, use_rot: bool, color: Color | None):
        if gt_size is not None and gt_size % scale:
            raise DataError(f"dataset '{name}': gt_size {gt_size} is not divisible by the scale {scale}.")
        self.name = name
        self.scale = scale
        self.gt_size = gt_size
        self.use_hflip = use_hflip
        self.use_rot = use_rot
        self.color = color or "rgb"

    def _crop(self, draw: Draw, random: np.random.Generator, height: int, width: int, path: str) -> Crop:
        """A crop of the degraded image of `height` x `width`."""
        gt_size = draw.patch_px or self.gt_size
        if gt_size is None:
            raise DataError(f"dataset '{self.name}': gt_size is needed for training.")
        size = gt_size // self.scale
        if min(height, width) < size:
            raise DataError(
                f"dataset '{self.name}': {path} is {width}x{height}, smaller than the patch of {size}x{size} "
                f"(gt_size {gt_size}, scale {self.scale}). Remove it or lower gt_size."
            )
        return random_crop(random, height, width, size)

    def _symmetry(self, random: np.random.Generator) -> Symmetry:
        return Symmetry.draw(random, mirror=self.use_hflip, rotate=self.use_rot)


@DATASETS.add()
class PairedImageDataset(_PairDataset):
    """Degraded images and their references, from two folders.

    Args:
        dataroot_gt: folder of the references.
        dataroot_lq: folder of the degraded images.
        name: name of the dataset, for messages.
        scale: size of a reference over the size of its degraded image.
        gt_size: side of the reference patches in training.
        use_hflip: mirror at random in training.
        use_rot: flip and transpose at random in training.
        filename_tmpl: name of a degraded image without extension, `{}` standing for the reference's.
        meta_info_file: list of the references to take.
        color: channels to train on.
        cache: `packed` decodes every image once into a memory-mapped file.
        cache_root: where packs are kept; default `~/.cache/restore/packs`.
    """

    def __init__(
        self,
        dataroot_gt: str,
        dataroot_lq: str,
        *,
        name: str = "train",
        scale: int = 1,
        gt_size: int | None = None,
        use_hflip: bool = False,
        use_rot: bool = False,
        filename_tmpl: str = "{}",
        meta_info_file: str | None = None,
        color: Color | None = None,
        cache: Cache = "none",
        cache_root: str | None = None,
    ):
        super().__init__(name, scale, gt_size, use_hflip, use_rot, color)
        self.pairs = list_pairs(
            name, dataroot_gt, dataroot_lq, filename_tmpl=filename_tmpl, meta_info_file=meta_info_file
        )
        self.gt = _source([pair.gt for pair in self.pairs], cache, cache_root)
        self.lq = _source([pair.lq for pair in self.pairs], cache, cache_root)

    def __len__(self) -> int:
        return len(self.gt)

    def __getitem__(self, item: int | Draw) -> dict[str, Any]:
        index = item.index if isinstance(item, Draw) else item
        gt, lq = self.gt.read(index), self.lq.read(index)
        paths = {"lq_path": self.lq.name(index), "gt_path": self.gt.name(index)}
        if not isinstance(item, Draw):
            gt = Crop(0, 0, *lq.shape[:2]).scaled(self.scale).of(gt)
            return {"lq": channels_of(lq, self.color), "gt": channels_of(gt, self.color), **paths}
        self._check_sizes(gt, lq, **paths)
        random = generator(item.seed, item.position)
        crop = self._crop(item, random, *lq.shape[:2], paths["lq_path"])
        symmetry = self._symmetry(random)
        lq = symmetry.of(channels_of(crop.of(lq), self.color))
        gt = symmetry.of(channels_of(crop.scaled(self.scale).of(gt), self.color))
        return {"lq": lq, "gt": gt, **paths}

    def _check_sizes(self, gt: np.ndarray, lq: np.ndarray, lq_path: str, gt_path: str) -> None:
        if gt.shape[:2] != (lq.shape[0] * self.scale, lq.shape[1] * self.scale):
            raise DataError(
                f"dataset '{self.name}': {gt_path} is {gt.shape[1]}x{gt.shape[0]}, which is not {self.scale} times "
                f"{lq_path} of {lq.shape[1]}x{lq.shape[0]}."
            )


@DATASETS.add()
class DownsampledImageDataset(_PairDataset):
    """References alone; the degraded image is made from them by antialiased bicubic resizing, as MATLAB does it.

    A training patch is resized with enough of its surroundings that it equals, to the last bit, the same patch of the
    whole image resized and rounded to its own depth.

    Args:
        dataroot_gt: folder or folders of the references.
        name: name of the dataset, for messages.
        scale: size of a reference over the size of its degraded image.
        gt_size: side of the reference patches in training.
        use_hflip: mirror at random in training.
        use_rot: flip and transpose at random in training.
        color: channels to train on.
        cache: `packed` decodes every image once into a memory-mapped file.
        cache_root: where packs are kept; default `~/.cache/restore/packs`.
    """

    def __init__(
        self,
        dataroot_gt: Roots,
        *,
        name: str = "train",
        scale: int = 1,
        gt_size: int | None = None,
        use_hflip: bool = False,
        use_rot: bool = False,
        color: Color | None = None,
        cache: Cache = "none",
        cache_root: str | None = None,
    ):
        super().__init__(name, scale, gt_size, use_hflip, use_rot, color)
        roots = [dataroot_gt] if isinstance(dataroot_gt, str) else dataroot_gt
        paths = [path for root in roots for path in list_folder(name, Path(root).expanduser(), "dataroot_gt")]
        self.pairs = [Pair(path.stem, gt=path) for path in paths]
        self.gt = _source(paths, cache, cache_root)

    def __len__(self) -> int:
        return len(self.gt)

    def __getitem__(self, item: int | Draw) -> dict[str, Any]:
        index = item.index if isinstance(item, Draw) else item
        gt, path = self.gt.read(index), self.gt.name(index)
        height, width = (side // self.scale for side in gt.shape[:2])
        gt = Crop(0, 0, height, width).scaled(self.scale).of(gt)
        if isinstance(item, Draw):
            random = generator(item.seed, item.position)
            crop = self._crop(item, random, height, width, path)
            symmetry = self._symmetry(random)
        else:
            crop, symmetry = Crop(0, 0, height, width), Symmetry()
        lq = channels_of(_downsampled(gt, crop, self.scale), self.color)
        gt = channels_of(crop.scaled(self.scale).of(gt), self.color)
        return {"lq": symmetry.of(lq), "gt": symmetry.of(gt), "lq_path": path, "gt_path": path}


_REACH = 3  # half of the cubic kernel's support is 2 pixels of the small image; one more for rounding


def _downsampled(gt: np.ndarray, crop: Crop, scale: int) -> np.ndarray:
    """The patch `crop` of `gt` resized by 1 / `scale` and rounded to the depth of `gt`."""
    from restore.images.resize import resize_pixels

    top, left = max(crop.top - _REACH, 0), max(crop.left - _REACH, 0)
    bottom, right = crop.top + crop.height + _REACH, crop.left + crop.width + _REACH
    around = Crop(top, left, min(bottom, gt.shape[0] // scale) - top, min(right, gt.shape[1] // scale) - left)
    small = resize_pixels(around.scaled(scale).of(gt), size=(around.height, around.width))
    return Crop(crop.top - top, crop.left - left, crop.height, crop.width).of(small)


def _source(paths: Sequence[Path], cache: Cache, cache_root: str | None) -> Source:
    return PackedSource(paths, cache_root) if cache == "packed" else FileSource(paths)
