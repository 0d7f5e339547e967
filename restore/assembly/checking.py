"""What is wrong with the datasets of an option file: every file of every dataset is read."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from restore.assembly.datasets import build_dataset
from restore.assembly.networks import shape_of_network
from restore.data.complaints import gathering
from restore.data.preparation.checking import check_dataset, check_files, samples_to_read
from restore.errors import RestoreError

if TYPE_CHECKING:
    from restore.networks import Network
    from restore.options import Options

__all__ = ["DatasetCheck"]

log = logging.getLogger(__name__)

Progress = Callable[[str, int], AbstractContextManager[Callable[[], None]]]


@dataclass(frozen=True)
class _Part:
    """A dataset, or that of one task."""

    title: str
    dataset: Any
    training: bool
    patch_px: int | None


class DatasetCheck:
    """Builds the datasets of an option file as a training or a test would, and reads all that is in them.

    Args:
        options: the option file.
        num_workers: threads that read.
        progress: called with a title and a number of samples; inside, the function that it gives is called after each.

    Attributes:
        total: how many samples there are; known when the first one is read.
    """

    def __init__(self, options: Options, *, num_workers: int, progress: Progress):
        self.options, self.num_workers, self.progress = options, num_workers, progress
        self.total = 0
        self._read: list[None] = []  # appending is safe in threads, counting is not

    @property
    def read(self) -> int:
        """How many samples were read so far."""
        return len(self._read)

    def problems(self) -> Iterator[str]:
        """A message for each image, pair, list or folder that cannot be used, and each mistake in their options."""
        parts: list[_Part] = []
        network = None
        try:
            network = shape_of_network(self.options)
        except RestoreError as error:
            log.warning("the network cannot be built, so the datasets are checked without it: %s", error)
        for key in self.options.datasets:
            with gathering() as gathered:
                try:
                    parts += self._parts(key, network)
                except RestoreError as error:
                    gathered.messages.append(str(error))
            yield from gathered.messages
            yield from check_files(gathered.files, num_workers=self.num_workers)
        self.total = sum(len(samples_to_read(part.dataset)) for part in parts)
        for part in parts:
            yield from self._samples(part)

    def _parts(self, key: str, network: Network | None) -> list[_Part]:
        block, dataset = self.options.datasets[key], build_dataset(self.options, key, network)
        tasks = getattr(dataset, "datasets", {key: dataset})  # one for each task, if there are several
        patch_px = max(block.gt_sizes) if block.gt_sizes else None
        return [_Part(f"{key}: {each.name}", each, block.phase == "train", patch_px) for each in tasks.values()]

    def _samples(self, part: _Part) -> Iterator[str]:
        with self.progress(part.title, len(samples_to_read(part.dataset))) as advance:

            def on_progress() -> None:
                self._read.append(None)
                advance()

            yield from check_dataset(
                part.dataset,
                training=part.training,
                patch_px=part.patch_px,
                num_workers=self.num_workers,
                on_progress=on_progress,
            )
