"""Which sample comes when: a pure function of the seed and of the position in the run.

A run is one endless row of samples. The sample at position p is number `order(p // n)[p % n]` of the dataset, and all
its randomness (crop, flips, noise) comes from a generator seeded by (seed, p). So nothing about the loader has to be
saved to resume a run bit by bit, the number of workers changes nothing, and N processes with batches of B see the
same global batches as one process with a batch of N B.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from torch.utils.data import Sampler

__all__ = ["Draw", "PatchStage", "StreamSampler", "generator"]


class Draw(NamedTuple):
    """One training sample to be made: which image, from which randomness, of what size.

    Attributes:
        index: number of the image in the dataset.
        seed: the seed of the run.
        position: position in the run; (seed, position) seeds the sample's generator.
        patch_px: side of the reference patch; None for the dataset's own.
        batch: number of its (micro-)batch in the run, which all processes share.
    """

    index: int
    seed: int
    position: int
    patch_px: int | None = None
    batch: int = 0


def generator(seed: int, position: int, stream: int = 0) -> np.random.Generator:
    """The random generator of one sample: independent of every other sample's, and of its own with another `stream`."""
    key, counter = (np.array(words, dtype=np.uint64) for words in ([seed, position], [0, 0, 0, stream]))
    return np.random.Generator(np.random.Philox(key=key, counter=counter))


class PatchStage(NamedTuple):
    """A stretch of a run with one batch size and one patch size (progressive training).

    Attributes:
        batch_size: samples per process and micro-batch.
        patch_px: side of the reference patches; None for the dataset's own.
        num_iter: length in iterations; None for the rest of the run.
    """

    batch_size: int
    patch_px: int | None = None
    num_iter: int | None = None


class StreamSampler(Sampler[list[Draw]]):
    """Batches of draws for one process, from any iteration on, to the end of the run.

    Args:
        num_images: size of the dataset.
        stages: batch and patch sizes, in order; the last one goes on for ever.
        total_iter: iterations of the whole run.
        seed: seed of the run.
        accumulate: micro-batches per iteration.
        rank, world_size: which process this is, of how many.
        groups: a group for each image: a batch, over all processes, holds images of one group only. Batches must then
            have one size throughout; a group that does not fill its last batch begins again in it.
        num_crops: how many different samples there are of each image, which come again and again after as many epochs;
            None for a new one every time.

    Raises:
        ValueError: groups and several stages.
    """

    def __init__(
        self,
        num_images: int,
        stages: Sequence[PatchStage],
        *,
        total_iter: int,
        seed: int = 0,
        accumulate: int = 1,
        rank: int = 0,
        world_size: int = 1,
        groups: Sequence[Hashable] | None = None,
        num_crops: int | None = None,
    ):
        if groups is not None and len(stages) > 1:
            raise ValueError("images in groups need batches of one size: give a single stage")
        self._batch = stages[0].batch_size * world_size
        self._groups = _members(groups) if groups is not None else None
        self.num_images = num_images if groups is None else sum(map(self._filled, self._groups))
        self.stages = list(stages)
        self.total_iter = total_iter
        self.seed = seed
        self.start_iter = 0
        self._offset = 0
        self.accumulate = accumulate
        self.rank = rank
        self.world_size = world_size
        self.num_crops = num_crops
        self._order: tuple[int, np.ndarray] = (-1, np.empty(0))

    def __len__(self) -> int:
        return max(self.total_iter - self.start_iter, 0) * self.accumulate

    def __iter__(self) -> Iterator[list[Draw]]:
        position = self.position(self.start_iter)
        for iteration in range(self.start_iter, self.total_iter):
            stage = self.stage(iteration)
            for number in range(iteration * self.accumulate, (iteration + 1) * self.accumulate):
                first = position + self.rank * stage.batch_size
                places = range(first, first + stage.batch_size)
                yield [self.draw(place, stage.patch_px, number) for place in places]
                position += stage.batch_size * self.world_size

    def start_at(self, iteration: int, position: int | None = None) -> None:
        """Begin after `iteration` finished iterations.

        Args:
            iteration: finished iterations.
            position: samples drawn in them, where it is known that batches had other sizes then.
        """
        self.start_iter = iteration
        self._offset = 0
        if position is not None:
            self._offset = position - self.position(iteration)

    def draw(self, position: int, patch_px: int | None = None, batch: int = 0) -> Draw:
        """The sample at `position` of the run, which belongs to the batch of number `batch`."""
        epoch, place = divmod(position, self.num_images)
        if self._order[0] != epoch:
            self._order = (epoch, self._shuffled(generator(self.seed, 2**63 + epoch)))
        index = int(self._order[1][place])
        if self.num_crops is not None:  # a function of the image and the crop's number alone
            position = epoch % self.num_crops * self.num_images + index
        return Draw(index, self.seed, position, patch_px, batch)

    def _shuffled(self, random: np.random.Generator) -> np.ndarray:
        """The order of an epoch; with groups, batch after batch of one group each, the batches shuffled."""
        if self._groups is None:
            return random.permutation(self.num_images)
        rows = [np.resize(random.permutation(members), self._filled(members)) for members in self._groups]
        batches = np.concatenate([row.reshape(-1, self._batch) for row in rows])
        return random.permutation(batches).reshape(-1)

    def _filled(self, members: np.ndarray) -> int:
        return -(-len(members) // self._batch) * self._batch

    def position(self, iteration: int) -> int:
        """Samples drawn by all processes in the first `iteration` iterations."""
        drawn = self._offset
        for stage in self.stages:
            length = iteration if stage.num_iter is None or stage is self.stages[-1] else min(iteration, stage.num_iter)
            drawn += length * stage.batch_size * self.accumulate * self.world_size
            iteration -= length
        return drawn

    def stage(self, iteration: int) -> PatchStage:
        """The stage in which iteration `iteration` (finished ones before it) falls."""
        for stage in self.stages[:-1]:
            if stage.num_iter is None or iteration < stage.num_iter:
                return stage
            iteration -= stage.num_iter
        return self.stages[-1]


def _members(groups: Sequence[Hashable]) -> list[np.ndarray]:
    """The numbers of the images of each group."""
    found: dict[Hashable, list[int]] = {}
    for index, group in enumerate(groups):
        found.setdefault(group, []).append(index)
    return [np.array(members) for members in found.values()]
