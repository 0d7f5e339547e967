"""Predicting milliseconds, and evolution under a bound."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch import nn

from restore.errors import DataError
from restore.evaluation.searches import Comparison, Evolution, LatencyPredictor, evolve, measure_round, rank_correlation
from restore.networks import ImageSpec
from restore.networks.elastic import Space, num_parameters

SPACE = Space(
    {"type": "MetaFormerRestorer", "embed_dim": 12, "depths": [2, 1]},
    {
        "embed_dim": [8, 12, 16],
        "depths": [1, 2, 3],
        "mixers": [{"type": "window", "num_heads": [2, 4], "window_size": [2, 4]}, "gated_conv"],
        "feed_forward": ["mlp", "gated"],
        "mlp_ratio": [1.0, 2.0],
    },
)
HOW = Evolution(generations=4, population=12, parents=4)


def drawn(count: int, seed: int) -> list:
    generator = random.Random(seed)
    return [SPACE.drawn(generator) for _ in range(count)]


def takes(choice) -> float:
    """Milliseconds as a sum over blocks."""
    block, total = SPACE.block(choice), 0.5
    for depth in block["depths"]:
        for mixer in block["mixers"][:depth]:
            total += block["embed_dim"] * (0.1 if "gated_conv" in str(mixer) else 0.02 * mixer["window_size"])
    return total + 0.001 * block["embed_dim"] ** 2


def test_what_is_a_sum_over_blocks_is_predicted():
    known, unseen = drawn(150, 0), drawn(40, 1)
    predictor = LatencyPredictor(SPACE, 16, known, [takes(each) for each in known])
    found, wanted = [predictor(each) for each in unseen], [takes(each) for each in unseen]
    assert rank_correlation(found, wanted) > 0.99
    np.testing.assert_allclose(found, wanted, rtol=0.05)
    again = LatencyPredictor(SPACE, 16, known, [takes(each) for each in known])
    assert [again(each) for each in unseen] == found


def test_padding_to_windows_takes_time():
    known = drawn(60, 0)
    predictor = LatencyPredictor(SPACE, 14, known, [takes(each) for each in known])
    of_window = {
        side: SPACE.choice_of({"embed_dim": 8, "depths": [1, 1], "mixers": [mixer], "mlp_ratio": 1.0})
        for side in (2, 4)
        for mixer in [{"type": "window", "num_heads": 2, "window_size": side}]
    }
    small, large = (predictor._features(of_window[side]) for side in (2, 4))
    assert large[0] / small[0] == pytest.approx((16 / 14) ** 2)


def test_networks_have_their_turns_in_every_round():
    order = []

    class Counted(nn.Module):
        def __init__(self, name):
            super().__init__()
            self.name = name

        def forward(self, x):
            order.append(self.name)
            return x

    names = list("abcd")
    for seed in (0, 1):
        order.clear()
        times = measure_round([lambda name=name: Counted(name) for name in names], 3, 8, seed, torch.device("cpu"))
        assert len(times) == 4
        assert min(times) >= 0
        assert sorted(order) == sorted(names * 3)
        assert order[::3] == [names[n] for n in np.random.default_rng(seed).permutation(4)]


@pytest.mark.parametrize("seed", range(3))
def test_no_network_over_the_bound_is_ever_looked_at(seed):
    counts = sorted(num_parameters(SPACE, each) for each in drawn(40, 9))
    bound, looked = counts[8], []

    def score(choice):
        looked.append(choice)
        return float(num_parameters(SPACE, choice))

    found = evolve(SPACE, score, lambda choice: num_parameters(SPACE, choice) <= bound, HOW, seed=seed)
    assert max(num_parameters(SPACE, each) for each in looked) <= bound
    assert found[0][1] == max(value for _, value in found) >= 0.8 * bound
    keys = [SPACE.key(each) for each in looked]
    assert len(keys) == len(set(keys)) == len(found) == 12 * 5


def test_the_best_is_found_and_the_same_seed_finds_the_same():
    def score(choice):
        return -takes(choice)

    runs = [evolve(SPACE, score, lambda _: True, HOW, seed=seed) for seed in (3, 3, 4)]
    assert runs[0] == runs[1] != runs[2]
    assert all(takes(run[0][0]) == min(takes(each) for each in drawn(400, 2)) for run in runs)


def test_generations_are_told_and_a_bound_that_nothing_keeps_is_refused():
    told = []
    evolve(SPACE, takes, lambda _: True, HOW, after=lambda number, ranked: told.append((number, len(ranked))))
    assert told == [(number, 12 * (number + 1)) for number in range(5)]
    with pytest.raises(DataError, match="not even the smallest"):
        evolve(SPACE, takes, lambda _: False, HOW)


def test_few_networks_are_looked_at_once_each():
    few = Space({"type": "MetaFormerRestorer", "depths": [1]}, {"embed_dim": [12, 24]})
    assert len(evolve(few, lambda choice: float(choice[0]), lambda _: True, HOW)) == 2


class Twice(nn.Upsample):
    spec = ImageSpec(2, 3, 3)


class Images:
    def __init__(self, sides):
        self.sides = sides

    def __len__(self):
        return len(self.sides)

    def __getitem__(self, index):
        side = self.sides[index]
        gt = np.full((2 * side, 2 * side, 3), 100, np.uint8)
        return {"lq": np.full((side, side, 3), 100, np.uint8), "gt": gt}


def test_networks_are_compared_on_the_middles_of_images():
    seen = []

    def metric(restored, reference):
        seen.append((restored.shape, reference.shape, restored.dtype))
        return 1.0 + len(seen)

    twice = Twice(scale_factor=2)
    arguments = {"scale": 2, "runtime": {"device": "cpu"}}
    assert Comparison(Images([8, 20, 30]), metric, crop_px=10, max_images=2, **arguments)(twice) == 2.5
    assert [each[0][0] for each in seen] == [16, 20]
    assert all(one == other and dtype == np.uint8 for one, other, dtype in seen)
    assert Comparison(Images([8]), metric, higher_is_better=False, **arguments)(twice) == -4.0
