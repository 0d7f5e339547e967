"""From samples to batches on the device: collating, workers, prefetching.

Samples travel between processes and to the device in the depth they were stored in (a quarter of float32's bytes for
8-bit images) and become what their fields say (see `restore.data.fields`) there.
"""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from restore.data.fields import Fields, batched, on_device
from restore.data.sampling import Draw
from restore.errors import DataError, ImageError
from restore.workers import leave_signals_to_the_main_process

__all__ = ["Batch", "DeviceLoader", "Failure", "Guarded", "collate", "training_loader"]

log = logging.getLogger(__name__)

Batch = dict[str, Any]


@dataclass(frozen=True)
class Failure:
    """What could not be loaded, on its way from a worker to the process that raises it.

    Attributes:
        message: what is wrong.
        of_one_image: whether another image could take its place.
    """

    message: str
    of_one_image: bool = True


class Guarded(Dataset):
    """A dataset whose bad images are reported in one line each, or passed over.

    Args:
        dataset: the dataset.
        skip: take the next image (of its group, where batches hold one group only) instead of one that cannot be read,
            and say so; else the training stops.
    """

    def __init__(self, dataset: Dataset, *, skip: bool = False):
        self.dataset = dataset
        self.skip = skip

    @property
    def fields(self) -> Fields:
        """What a sample holds."""
        return self.dataset.fields

    def __getitem__(self, draw: Draw) -> dict[str, Any] | Failure:
        for index in self._candidates(draw.index):
            try:
                return self.dataset[draw._replace(index=index)]
            except (DataError, ImageError) as error:
                if not self.skip:
                    return Failure(str(error))
                log.warning("skipped: %s", error)
        return Failure("no image of the training data can be used.")

    def _candidates(self, index: int) -> Iterator[int]:
        """`index`, and what may stand in for it."""
        groups = getattr(self.dataset, "groups", None)
        for tried in range(len(self.dataset)):
            another = (index + tried) % len(self.dataset)
            if groups is None or groups[another] == groups[index]:
                yield another


def training_loader(
    dataset: Dataset,
    sampler: Sampler,
    *,
    num_workers: int = 0,
    pin_memory: bool = False,
    prefetch_factor: int = 4,
    skip_bad_images: bool = False,
) -> DataLoader:
    """Batches of `sampler`'s draws, made by worker processes that leave Ctrl-C to their parent.

    There are never more workers than processors; how many there are changes nothing but the speed.
    """
    dataset = Guarded(dataset, skip=skip_bad_images)
    num_workers = min(num_workers, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else num_workers)
    return DataLoader(
        dataset,
        batch_sampler=sampler,
        num_workers=num_workers,
        pin_memory=pin_memory,
        collate_fn=functools.partial(collate, fields=dataset.fields),
        worker_init_fn=_start_worker,
        prefetch_factor=prefetch_factor if num_workers else None,
        generator=torch.Generator(),  # the loader's own: the global one must not depend on when it is started
    )


def collate(samples: Sequence[dict[str, Any] | Failure], fields: Fields) -> Batch | Failure:
    """One batch, each field as its kind says; or what is wrong with it."""
    for sample in samples:
        if isinstance(sample, Failure):
            return sample
    try:
        return batched(samples, fields)
    except DataError as error:
        return Failure(str(error), of_one_image=False)


class DeviceLoader:
    """Iterates over a loader with the next batch on its way to the device while this one is worked on.

    On CUDA the copy runs on its own stream; elsewhere there is nothing to overlap with and batches pass through.
    """

    def __init__(self, loader: DataLoader, device: torch.device, *, channels_last: bool = False):
        self.loader = loader
        self.device = device
        self.channels_last = channels_last

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Batch]:
        """The batches.

        Raises:
            DataError: an image cannot be used; the message names it.
        """
        if self.device.type != "cuda":
            yield from map(self._on_device, self.loader)
            return
        stream = torch.cuda.Stream(self.device)
        ahead = None
        for batch in self.loader:
            with torch.cuda.stream(stream):
                coming = self._on_device(batch)
            if ahead is not None:
                yield ahead
            torch.cuda.current_stream(self.device).wait_stream(stream)
            _keep_until_used(coming, self.device)
            ahead = coming
        if ahead is not None:
            yield ahead

    def _on_device(self, batch: Batch | Failure) -> Batch:
        if isinstance(batch, Failure):
            advice = (
                "\n  To train without such images: on_bad_image: skip, in datasets.train. "
                "To find all of them at once: restore data check -opt FILE."
            )
            raise DataError(batch.message + (advice if batch.of_one_image else ""))
        return on_device(batch, self.loader.dataset.fields, self.device, channels_last=self.channels_last)


def _keep_until_used(batch: Batch, device: torch.device) -> None:
    for value in batch.values():
        if isinstance(value, Tensor):
            value.record_stream(torch.cuda.current_stream(device))


def _start_worker(number: int) -> None:
    leave_signals_to_the_main_process()
    torch.set_num_threads(1)
