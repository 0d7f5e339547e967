"""The stream of samples is a function of seed and position alone."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from restore.data.sampling import PatchStage, StreamSampler, generator


def sampler(num_images=7, batch=4, total_iter=12, **options):
    return StreamSampler(num_images, [PatchStage(batch)], total_iter=total_iter, **options)


def draws(stream):
    return list(itertools.chain.from_iterable(stream))


def test_every_epoch_is_a_permutation_and_no_two_are_alike():
    indices = [draw.index for draw in draws(sampler(total_iter=7))]
    epochs = [indices[start : start + 7] for start in range(0, 28, 7)]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4


def test_seeds_differ():
    assert draws(sampler(seed=1)) != draws(sampler(seed=2))


@pytest.mark.parametrize("start", [0, 1, 5, 11, 12])
def test_starting_in_the_middle_continues_the_same_stream(start):
    whole, later = list(sampler(accumulate=2)), sampler(accumulate=2)
    later.start_at(start)
    assert list(later) == whole[2 * start :]
    assert len(later) == len(whole) - 2 * start


@pytest.mark.parametrize("accumulate", [1, 3])
def test_processes_share_the_batches_of_one(accumulate):
    whole = draws(sampler(batch=6, accumulate=accumulate))
    parts = [list(sampler(batch=3, accumulate=accumulate, rank=rank, world_size=2, total_iter=12)) for rank in range(2)]
    shared = [draw for both in zip(*parts, strict=True) for part in both for draw in part]
    assert shared == whole


def test_stages_change_batch_and_patch_and_resume_anywhere():
    stages = [PatchStage(4, 8, 3), PatchStage(2, 16, 2), PatchStage(1, 32, 1)]
    whole = list(StreamSampler(7, stages, total_iter=8))
    assert [len(batch) for batch in whole] == [4, 4, 4, 2, 2, 1, 1, 1]
    assert [batch[0].patch_px for batch in whole] == [8, 8, 8, 16, 16, 32, 32, 32]
    assert [draw.position for draw in draws(whole)] == list(range(19))
    for start in range(8):
        later = StreamSampler(7, stages, total_iter=8)
        later.start_at(start)
        assert list(later) == whole[start:]


def test_another_batch_size_goes_on_where_the_first_one_ended():
    before = sampler(batch=4)
    after = sampler(batch=3)
    after.start_at(5, before.position(5))
    first = next(iter(after))
    assert [draw.position for draw in first] == [20, 21, 22]
    assert after.position(6) == 23


def test_generators_of_samples_are_independent():
    values = {generator(seed, position).random() for seed in range(3) for position in range(50)}
    assert len(values) == 150
    assert generator(2, 5).random() == generator(2, 5).random()
    assert np.isfinite(generator(0, 2**63 + 1).random())
