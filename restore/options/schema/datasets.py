"""`datasets`: what a dataset reads, and how it is loaded. The rest of a block are arguments of its `type`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import pydantic
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt
from pydantic_core import PydanticCustomError

from restore.options.schema.section import Name, Path, Roots, Section, plain

__all__ = ["PHASES", "DatasetKey", "DatasetOptions", "LoaderOptions", "StorageOptions", "phase_of"]

PHASES = ("train", "val", "test")


def phase_of(key: str) -> str | None:
    """The phase of a dataset called `key`: `val` for val, val_2, val2; None if it is none of them."""
    first = key.split("_")[0].rstrip("0123456789")
    return first if first in PHASES else None


def _says_phase(key: str) -> str:
    if phase_of(key) is None:
        raise PydanticCustomError("phase", "the key of a dataset begins with its phase: train, val or test (val_2)")
    return key


DatasetKey = Annotated[Name, pydantic.AfterValidator(_says_phase)]


class StorageOptions(Section):
    """How files are read."""

    type: Literal["disk", "lmdb"] = "disk"
    """disk: files in folders; lmdb: one database for each root, made by `restore data lmdb`."""


class _Source(Section):
    """What a dataset is and reads."""

    name: Name
    """Name in tables, logs and result folders."""
    type: str
    """Kind of dataset: PairedImageDataset, SingleImageDataset, RealESRGANDataset, ..."""
    io_backend: StorageOptions = StorageOptions()
    """How files are read: {type: disk} or {type: lmdb}."""
    dataroot_gt: Roots = None
    """Folder or lmdb of the sharp images, or a list of them, read as one."""
    dataroot_lq: Roots = None
    """Folder or lmdb of the degraded images, or a list of them."""
    meta_info_file: Roots = None
    """Text file whose lines begin with the name of a sharp image, relative to dataroot_gt: only those are read. With
    several roots, a list of such files."""
    filename_tmpl: Path | None = None
    """Name of the degraded image from that of the sharp one: '{}x4' for baby.png and babyx4.png."""
    gt_size: PositiveInt | None = None
    """Side of a training patch of the sharp image in pixels, a multiple of scale."""
    use_hflip: bool | None = None
    """Whether training patches are flipped left to right at random."""
    use_rot: bool | None = None
    """Whether training patches are flipped upside down and transposed at random."""
    mean: list[float] | None = None
    """Subtracted from both images, one value for each channel, on [0, 1]."""
    std: list[float] | None = None
    """Divides both images after that."""
    color: Literal["rgb", "y", "grey", "gray"] | None = None
    """y: only the luma of both images, as metrics take it; grey: full-range luma; null: what the network takes."""


class LoaderOptions(Section):
    """How samples become batches. None of these reaches the dataset."""

    batch_size_per_gpu: PositiveInt = 1
    """Samples in a batch on each device; must be given for training. Validation and test load one at a time."""
    num_worker_per_gpu: NonNegativeInt = 4
    """Processes that load data for each device; 0 loads in the training process."""
    dataset_enlarge_ratio: PositiveFloat = 1.0
    """How often an epoch goes through the dataset; a large value spares the pause between epochs of a small one."""
    prefetch_mode: Literal["cpu", "cuda"] | None = None
    """cpu: a thread takes batches ahead; cuda: batches are copied to the device ahead; null: as is best here."""
    num_prefetch_queue: PositiveInt = 1
    """Batches that are taken ahead."""
    pin_memory: bool = False
    """Whether batches lie in page-locked memory, from where a GPU copies faster."""
    persistent_workers: bool = False
    """Whether loading processes live on between epochs."""
    mini_batch_sizes: list[PositiveInt] | None = None
    """Progressive training (Restormer): batch size of each stage."""
    iters: list[PositiveInt] | None = None
    """Progressive training (Restormer): iterations of each stage."""
    gt_sizes: list[PositiveInt] | None = None
    """Progressive training (Restormer): patch size of each stage, cut from patches of gt_size."""
    on_bad_image: Literal["error", "skip"] = "error"
    """What an image that cannot be read does to a training: stop it, or be named and replaced by another."""
    use_shuffle: bool | None = None
    """Read by no version of BasicSR: training data is always shuffled, other data never."""


class DatasetOptions(LoaderOptions, _Source):
    """One dataset: its name, its type, what it reads, and how it is loaded."""

    model_config = pydantic.ConfigDict(extra="allow")

    task: str | int | None = None
    """Validation: which task of a network of several this dataset is for, by name or number."""

    _key: str = pydantic.PrivateAttr("")
    _scale: int = pydantic.PrivateAttr(1)

    @property
    def key(self) -> str:
        """The name that it has in the option file: train, val, test_1, ..."""
        return self._key

    @property
    def phase(self) -> str:
        """train, val or test."""
        return phase_of(self._key) or ""

    @property
    def scale(self) -> int:
        """How many times larger the sharp image is, from the top of the option file."""
        return self._scale

    @property
    def block(self) -> dict[str, Any]:
        """For `DATASETS.build`, which is given name and scale as well: the type and the arguments in the file."""
        return self.component({key: plain(getattr(self, key)) for key in self.model_fields_set})

    @classmethod
    def component(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """What of a dataset block concerns the component: not how it is loaded, and nothing that is null by default."""
        storage = values.get("io_backend")
        silent = {"name", "task", *LoaderOptions.model_fields}
        silent |= {key for key in cls.model_fields if values.get(key) is None}
        if isinstance(storage, Mapping) and storage.get("type") != "lmdb":
            silent.add("io_backend")
        return {key: value for key, value in values.items() if key not in silent}
