"""Parts of quality datasets that share no scene: all distorted versions of a reference fall on one side."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence

import numpy as np

from restore.errors import DataError

__all__ = ["repeated_splits", "split_scenes"]


def split_scenes(scenes: Sequence[Hashable], test_share: float = 0.2, seed: int = 0) -> tuple[list[int], list[int]]:
    """The numbers of the images of the training part and of the test part.

    Args:
        scenes: for each image, what it shows: its reference, or the image itself where there is none.
        test_share: share of the scenes (not of the images) that is for testing; at least one on either side.
        seed: the same seed gives the same parts.

    Raises:
        DataError: fewer than two scenes, or a share outside (0, 1).
    """
    if not 0 < test_share < 1:
        raise DataError(f"test_share must be between 0 and 1; given: {test_share}.")
    distinct = sorted(set(scenes), key=str)
    if len(distinct) < 2:
        raise DataError(f"a dataset of {len(distinct)} scene(s) cannot be split: both parts would show the same.")
    num_test = min(max(round(test_share * len(distinct)), 1), len(distinct) - 1)
    order = np.random.default_rng(seed).permutation(len(distinct))
    test_scenes = {distinct[place] for place in order[:num_test]}
    train = [index for index, scene in enumerate(scenes) if scene not in test_scenes]
    test = [index for index, scene in enumerate(scenes) if scene in test_scenes]
    return train, test


def repeated_splits(
    scenes: Sequence[Hashable], num_splits: int = 10, test_share: float = 0.2, seed: int = 0
) -> Iterator[tuple[list[int], list[int]]]:
    """`num_splits` splits, the first with `seed`, the next with `seed + 1`, ...: what `split_seed` counts."""
    for number in range(num_splits):
        yield split_scenes(scenes, test_share, seed + number)
