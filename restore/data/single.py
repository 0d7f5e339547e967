"""Images without references, as in BasicSR's `SingleImageDataset`."""

from __future__ import annotations

from typing import Any

from restore.data.databases import DatabaseSource
from restore.data.pairs import Pair, list_pairs
from restore.data.sources import FileSource, Source, channels_of
from restore.registry import DATASETS

__all__ = ["SingleImageDataset"]


@DATASETS.add()
class SingleImageDataset:
    """Degraded images alone; samples are `{"lq", "lq_path"}`.

    Attributes:
        color: None: in the channels that the network takes.

    Args:
        dataroot_lq: folder of the degraded images.
        name: name of the dataset, for messages.
        scale: enlargement of the network that will see them.
        meta_info_file: list of the images to take.
        io_backend: `{type: disk}` or `{type: lmdb}`.
    """

    color = None

    def __init__(
        self,
        dataroot_lq: str,
        *,
        name: str = "test",
        scale: int = 1,
        meta_info_file: str | None = None,
        io_backend: dict[str, Any] | None = None,
    ):
        self.name = name
        self.scale = scale
        self.lq: Source
        if (io_backend or {}).get("type") == "lmdb":
            self.lq = DatabaseSource(dataroot_lq)
            self.pairs = [Pair(path.name, lq=path) for path in self.lq.paths()]
        else:
            self.pairs = list_pairs(name, None, dataroot_lq, meta_info_file=meta_info_file)
            self.lq = FileSource([pair.lq for pair in self.pairs])

    def __len__(self) -> int:
        return len(self.lq)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"lq": channels_of(self.lq.read(index), "rgb"), "lq_path": self.lq.name(index)}
