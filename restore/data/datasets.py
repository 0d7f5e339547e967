"""Datasets of low-level vision, by BasicSR's names and options.

A dataset answers to two kinds of index. A `Draw` is a training sample: a random crop and symmetry from the draw's own
generator. An `int` is a whole image, for validation. Either way the sample is `{"lq", "gt", "lq_path", "gt_path"}` with
images as numpy arrays (H, W, C). `fields` declares what a training sample holds (see `restore.data.fields`); batches
are made of samples by `restore.data.loading`.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from torch.utils.data import Dataset

from restore.data.augment import Crop, Symmetry, random_crop
from restore.data.complaints import is_gathering
from restore.data.fields import Fields
from restore.data.pairs import Pair, list_folder, list_pairs, listed_files
from restore.data.sampling import Draw, generator
from restore.data.storage.databases import DatabaseSource, paired_databases
from restore.data.storage.sources import FileSource, JoinedSource, PackedSource, Source, channels_of
from restore.errors import DataError
from restore.files import expanded
from restore.images.resizing import resize_pixels
from restore.registry import DATASETS

__all__ = [
    "DownsampledImageDataset",
    "PairedImageDataset",
    "PatchDataset",
    "each_list",
    "each_root",
    "reduced",
    "references",
    "say_list_is_not_read",
]

log = logging.getLogger(__name__)

Color = Literal["rgb", "y", "grey", "gray"]
Cache = Literal["none", "packed"]
Roots = str | list[str]
Storage = dict[str, Any]


@dataclass(kw_only=True, eq=False)
class PatchDataset(Dataset):
    """What every dataset of pairs shares: crops, symmetries, channels, and where decoded images are kept.

    Args:
        name: name of the dataset, for messages.
        scale: size of a reference over the size of its degraded image.
        gt_size: side of the reference patches in training.
        use_hflip: mirror at random in training.
        use_flip: NAFNet's name for `use_hflip`.
        use_rot: flip and transpose at random in training.
        geometric_augs: Restormer's name for both.
        color: channels: `rgb`, `y` (BT.601 luma) or `grey`; by default RGB, in an evaluation the network's.
        recursive: look into sub-folders as well.
        cache: `packed` decodes every image once into a memory-mapped file.
        cache_root: where packs are kept; by default with the other caches.

    Attributes:
        fields: what a training sample holds.
    """

    fields: ClassVar[Fields] = {"lq": "image", "gt": "image", "lq_path": "text", "gt_path": "text"}

    name: str = "train"
    scale: int = 1
    gt_size: int | None = None
    use_hflip: bool = False
    use_flip: bool = False
    use_rot: bool = False
    geometric_augs: bool = False
    color: Color | None = None
    recursive: bool = False
    cache: Cache = "none"
    cache_root: str | None = None

    def __post_init__(self):
        if self.gt_size is not None and self.gt_size % self.scale:
            raise DataError(
                f"dataset '{self.name}': gt_size {self.gt_size} is not divisible by the scale {self.scale}."
            )

    def crop(self, draw: Draw, random: np.random.Generator, shape: Sequence[int], path: str) -> Crop:
        """A random crop of the degraded image, whose size is `shape[:2]`."""
        gt_size = draw.patch_px or self.gt_size
        if gt_size is None:
            raise DataError(f"dataset '{self.name}': gt_size is needed for training.")
        height, width = shape[:2]
        size = gt_size // self.scale
        if min(height, width) < size:
            raise DataError(
                f"dataset '{self.name}': {path} is {width}x{height}, smaller than the patch of {size}x{size} "
                f"(gt_size {gt_size}, scale {self.scale}). Remove it or lower gt_size."
            )
        return random_crop(random, height, width, size)

    def symmetry(self, random: np.random.Generator) -> Symmetry:
        """A random symmetry of those that the options allow."""
        mirror = self.use_hflip or self.use_flip or self.geometric_augs
        return Symmetry.draw(random, mirror=mirror, rotate=self.use_rot or self.geometric_augs)

    def channels(self, pixels: np.ndarray) -> np.ndarray:
        """`pixels` as (H, W, C) in the channels to train on."""
        return channels_of(pixels, self.color or "rgb")

    def files(self, paths: Sequence[Path]) -> Source:
        """A source of these files."""
        if self.cache == "packed" and not is_gathering():  # a check reads the files themselves
            return PackedSource(paths, self.cache_root)
        return FileSource(paths)


@DATASETS.add("PairedImageDataset", "Dataset_PairedImage")
@dataclass(eq=False)
class PairedImageDataset(PatchDataset):
    """Degraded images and their references: folders, lists of files, or lmdb databases.

    Args:
        dataroot_gt: folder or folders of the references, or databases.
        dataroot_lq: folder or folders of the degraded images, in the same order, or databases.
        filename_tmpl: name of a degraded image without extension, `{}` standing for the reference's.
        meta_info_file: list of the references to take, one for each folder.
        io_backend: `{type: disk}` or `{type: lmdb}`.
        mean: subtracted from both images on [0, 1], one value for each channel.
        std: divides both images after that.
    """

    dataroot_gt: Roots
    dataroot_lq: Roots
    filename_tmpl: str = "{}"
    meta_info_file: Roots | None = None
    io_backend: Storage | None = None
    mean: list[float] | None = None
    std: list[float] | None = None

    def __post_init__(self):
        super().__post_init__()
        self.pairs: list[Pair] = []
        self.gt: Source
        self.lq: Source
        roots = each_root(self.dataroot_gt), each_root(self.dataroot_lq)
        if len(roots[0]) != len(roots[1]):
            raise DataError(f"dataset '{self.name}': {len(roots[0])} dataroot_gt and {len(roots[1])} dataroot_lq.")
        if (self.io_backend or {}).get("type") == "lmdb":
            say_list_is_not_read(self.name, self.lists)
            sources = [paired_databases(self.name, gt, lq) for gt, lq in zip(*roots, strict=True)]
            self.gt, self.lq = (JoinedSource(each) for each in zip(*sources, strict=True))
            for gts, lqs in sources:
                self.pairs += [Pair(lq.name, gt, lq) for gt, lq in zip(gts.paths(), lqs.paths(), strict=True)]
            return
        lists = each_list(self.name, self.lists, roots[0])
        for gt, lq, listing in zip(*roots, lists, strict=True):
            self.pairs += self.listed(gt, lq, listing)
        self.gt = self.files([pair.gt for pair in self.pairs])
        self.lq = self.files([pair.lq for pair in self.pairs])

    def __len__(self) -> int:
        return len(self.gt)

    def __getitem__(self, item: int | Draw) -> dict[str, Any]:
        index = item.index if isinstance(item, Draw) else item
        gt, lq = self.gt.view(index), self.lq.view(index)
        paths = {"lq_path": self.lq.name(index), "gt_path": self.gt.name(index)}
        self._check_sizes(gt, lq, exactly=isinstance(item, Draw), **paths)
        if isinstance(item, Draw):
            random = generator(item.seed, item.position)
            crop, symmetry = self.crop(item, random, lq.shape, paths["lq_path"]), self.symmetry(random)
        else:
            crop, symmetry = Crop(0, 0, *lq.shape[:2]), Symmetry()
        lq = symmetry.of(self._normalised(self.channels(crop.of(lq))))
        gt = symmetry.of(self._normalised(self.channels(crop.scaled(self.scale).of(gt))))
        return {"lq": lq, "gt": gt, **paths}

    @property
    def lists(self) -> Roots | None:
        """The lists of files, one for each folder."""
        return self.meta_info_file

    def listed(self, gt: Path, lq: Path, listing: Path | None) -> list[Pair]:
        """The pairs of two folders, those on a list or all."""
        return list_pairs(
            self.name,
            gt,
            lq,
            filename_tmpl=self.filename_tmpl,
            meta_info_file=listing,
            recursive=self.recursive,
        )

    def _check_sizes(self, gt: np.ndarray, lq: np.ndarray, lq_path: str, gt_path: str, exactly: bool) -> None:
        """In validation a reference may be larger by what a multiple of the scale leaves over."""
        slack = 0 if exactly else self.scale - 1
        if not all(
            0 <= large - small * self.scale <= slack for large, small in zip(gt.shape[:2], lq.shape, strict=False)
        ):
            raise DataError(
                f"dataset '{self.name}': {gt_path} is {gt.shape[1]}x{gt.shape[0]}, which is not {self.scale} times "
                f"{lq_path} of {lq.shape[1]}x{lq.shape[0]} (width x height).{self._real_scale(gt, lq)}"
            )

    def _real_scale(self, gt: np.ndarray, lq: np.ndarray) -> str:
        """A sentence, where the images fit each other at another scale than that of the option file."""
        ratios = {divmod(large, small) for large, small in zip(gt.shape[:2], lq.shape[:2], strict=True)}
        (ratio, rest), *others = ratios
        return "" if others or rest or ratio == 0 else f" They fit at scale {ratio}: is scale {self.scale} right?"

    def _normalised(self, pixels: np.ndarray) -> np.ndarray:
        if self.mean is None and self.std is None:
            return pixels
        values = pixels if pixels.dtype == np.float32 else np.float32(pixels) / np.float32(np.iinfo(pixels.dtype).max)
        return (values - np.float32(self.mean or 0)) / np.float32(self.std or 1)


@DATASETS.add("DownsampledImageDataset", "ImageNetPairedDataset")  # the second in HAT's files
@dataclass(eq=False)
class DownsampledImageDataset(PatchDataset):
    """References alone; the degraded image is made from them by antialiased bicubic resizing, as MATLAB does it.

    A training patch is resized with enough of its surroundings that it equals the same patch of the whole image resized
    and rounded to its own depth.

    Args:
        dataroot_gt: folder or folders of the references, or databases.
        meta_info_file: list of the references to take, one for each folder.
        io_backend: `{type: disk}` or `{type: lmdb}`.
    """

    dataroot_gt: Roots
    meta_info_file: Roots | None = None
    io_backend: Storage | None = None

    def __post_init__(self):
        super().__post_init__()
        self.gt, self.pairs = references(self, self.dataroot_gt, self.io_backend, self.meta_info_file)

    def __len__(self) -> int:
        return len(self.gt)

    def __getitem__(self, item: int | Draw) -> dict[str, Any]:
        index = item.index if isinstance(item, Draw) else item
        gt, path = self.gt.read(index), self.gt.name(index)
        height, width = (side // self.scale for side in gt.shape[:2])
        gt = Crop(0, 0, height, width).scaled(self.scale).of(gt)
        if isinstance(item, Draw):
            random = generator(item.seed, item.position)
            crop, symmetry = self.crop(item, random, (height, width), path), self.symmetry(random)
        else:
            crop, symmetry = Crop(0, 0, height, width), Symmetry()
        lq = symmetry.of(self.channels(_downsampled(gt, crop, self.scale)))
        gt = symmetry.of(self.channels(crop.scaled(self.scale).of(gt)))
        return {"lq": lq, "gt": gt, "lq_path": path, "gt_path": path}

    def degraded(self, reference: np.ndarray, index: int) -> np.ndarray:
        """The input of a whole reference.

        Raises:
            DataError: there is nothing to reduce at scale 1, or the reference is smaller than the scale.
        """
        if self.scale == 1:
            raise DataError(f"dataset '{self.name}': it has no inputs, and at scale 1 none are made. Give dataroot_lq.")
        return reduced(reference, self.scale, self.gt.name(index))


def each_root(roots: Roots) -> list[Path]:
    """One folder or several as a list."""
    return [expanded(root) for root in ([roots] if isinstance(roots, (str, Path)) else roots)]


def each_list(dataset: str, lists: Roots | None, roots: Sequence[Path]) -> list[Path | None]:
    """The list of files of each folder; None for all of its files.

    Raises:
        DataError: there are not as many as folders.
    """
    if lists is None:
        return [None] * len(roots)
    paths = each_root(lists)
    if len(paths) != len(roots):
        raise DataError(
            f"dataset '{dataset}': {len(paths)} list(s) of files for {len(roots)} root(s): give one for each, as in "
            "meta_info_file: [first.txt, second.txt]."
        )
    return paths


def say_list_is_not_read(dataset: str, lists: Roots | None) -> None:
    """Tell that a database knows itself what it holds, as in BasicSR."""
    if lists is not None:
        log.warning("dataset '%s': %s is not read: an lmdb lists its images itself", dataset, lists)


def references(
    dataset: PatchDataset, roots: Roots, storage: Storage | None, lists: Roots | None = None
) -> tuple[Source, list[Pair]]:
    """The references of a dataset that has nothing else: their source, and where they are.

    Args:
        dataset: whose references they are.
        roots: folders or databases.
        storage: `{type: lmdb}` for databases.
        lists: for each folder a list of the files to take; by default all.
    """
    folders = each_root(roots)
    if (storage or {}).get("type") == "lmdb":
        say_list_is_not_read(dataset.name, lists)
        sources = [DatabaseSource(root) for root in folders]
        return JoinedSource(sources), [Pair(path.name, gt=path) for source in sources for path in source.paths()]
    paths: list[Path] = []
    for root, listing in zip(folders, each_list(dataset.name, lists, folders), strict=True):
        if listing is None:
            paths += list_folder(dataset.name, root, "dataroot_gt", recursive=dataset.recursive)
        else:
            paths += listed_files(dataset.name, root, listing)
    return dataset.files(paths), [Pair(path.stem, gt=path) for path in paths]


def reduced(pixels: np.ndarray, scale: int, name: str) -> np.ndarray:
    """A whole image, cropped to a multiple of `scale`, reduced as MATLAB does it, in its own depth.

    Raises:
        DataError: the image, which is called `name`, is smaller than the scale.
    """
    height, width = (side // scale for side in pixels.shape[:2])
    if not height or not width:
        raise DataError(f"'{name}' is {pixels.shape[1]}x{pixels.shape[0]}: too small to be reduced {scale} times.")
    return resize_pixels(pixels[: height * scale, : width * scale], size=(height, width))


_REACH = 3  # half of the cubic kernel's support is 2 pixels of the small image; one more for rounding


def _downsampled(gt: np.ndarray, crop: Crop, scale: int) -> np.ndarray:
    """The patch `crop` of `gt` resized by 1 / `scale` and rounded to the depth of `gt`."""
    top, left = max(crop.top - _REACH, 0), max(crop.left - _REACH, 0)
    bottom, right = crop.top + crop.height + _REACH, crop.left + crop.width + _REACH
    around = Crop(top, left, min(bottom, gt.shape[0] // scale) - top, min(right, gt.shape[1] // scale) - left)
    small = resize_pixels(around.scaled(scale).of(gt), size=(around.height, around.width))
    return Crop(crop.top - top, crop.left - left, crop.height, crop.width).of(small)
