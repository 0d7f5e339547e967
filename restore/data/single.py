"""Images without references, as in BasicSR's `SingleImageDataset`."""

from __future__ import annotations

from typing import Any, ClassVar

from restore.data.datasets import Color, Roots, Storage, each_list, each_root, say_list_is_not_read
from restore.data.fields import Fields
from restore.data.pairs import Pair, list_pairs
from restore.data.sampling import Draw
from restore.data.storage.databases import DatabaseSource
from restore.data.storage.sources import FileSource, JoinedSource, Source, channels_of
from restore.registry import DATASETS

__all__ = ["SingleImageDataset"]


@DATASETS.add()
class SingleImageDataset:
    """Degraded images alone; samples are `{"lq", "lq_path"}`.

    Args:
        dataroot_lq: folder or folders of the degraded images, or databases.
        name: name of the dataset, for messages.
        scale: enlargement of the network that will see them.
        meta_info_file: list of the images to take, one for each folder.
        io_backend: `{type: disk}` or `{type: lmdb}`.
        color: channels: `rgb`, `y` (BT.601 luma) or `grey`; by default those that the network takes.
        recursive: look into sub-folders as well.
    """

    fields: ClassVar[Fields] = {"lq": "image", "lq_path": "text"}

    def __init__(
        self,
        dataroot_lq: Roots,
        *,
        name: str = "test",
        scale: int = 1,
        meta_info_file: Roots | None = None,
        io_backend: Storage | None = None,
        color: Color | None = None,
        recursive: bool = False,
    ):
        self.name = name
        self.scale = scale
        self.color = color
        self.lq: Source
        roots = each_root(dataroot_lq)
        if (io_backend or {}).get("type") == "lmdb":
            say_list_is_not_read(name, meta_info_file)
            sources = [DatabaseSource(root) for root in roots]
            self.lq = JoinedSource(sources)
            self.pairs = [Pair(path.name, lq=path) for source in sources for path in source.paths()]
            return
        self.pairs = []
        for root, listing in zip(roots, each_list(name, meta_info_file, roots), strict=True):
            self.pairs += list_pairs(name, None, root, meta_info_file=listing, recursive=recursive)
        self.lq = FileSource([pair.lq for pair in self.pairs])

    def __len__(self) -> int:
        return len(self.lq)

    def __getitem__(self, item: int | Draw) -> dict[str, Any]:
        index = item.index if isinstance(item, Draw) else item
        return {"lq": channels_of(self.lq.read(index), self.color or "rgb"), "lq_path": self.lq.name(index)}
