from __future__ import annotations

import numpy as np
import pytest

from restore.errors import DataError, ImageError
from restore.evaluation.opinions.run import agreement, median_over_splits
from restore.inference.judging import judgements
from restore.quality import build_quality

BLOCK = {
    "type": "TRIQ",
    "encoder": {"type": "conv_pyramid", "widths": [4]},
    "width": 8,
    "num_heads": 2,
    "num_layers": 1,
}


def curved(count=60, seed=0):
    random = np.random.default_rng(seed)
    scores = random.uniform(-3, 3, count)
    return scores, 1 / (1 + np.exp(-2 * scores)) + random.normal(0, 0.01, count)


def test_fits_straighten_what_ranks_well():
    scores, opinions = curved()
    found = agreement(scores, opinions, resamples=50)
    assert found["num_images"] == 60
    assert found["logistic4"]["plcc"] > 0.999 > found["none"]["plcc"]
    assert found["logistic5"]["rmse"] < 0.02
    assert found["none"]["srcc"] == found["logistic4"]["srcc"]
    for name, (low, high) in found["intervals"].items():
        assert low <= found["none"][name] <= high


def test_medians_over_splits_are_of_test_parts():
    scores, opinions = curved(60)
    scenes = [number // 6 for number in range(60)]
    found = median_over_splits(scores, opinions, scenes, num_splits=5, test_share=0.3)
    assert found["num_splits"] == 5
    assert 0.9 < found["srcc"] <= 1
    assert found == median_over_splits(scores, opinions, scenes, num_splits=5, test_share=0.3)


@pytest.mark.parametrize(
    ("scores", "message"),
    [([1.0] * 5, "constant"), ([1, 2, float("nan"), 4, 5], "NaN"), ([1.0, 2.0], "2 scores against 5 opinions")],
)
def test_undefined_correlations_are_said(scores, message):
    with pytest.raises(DataError, match=message):
        agreement(scores, [0.1, 0.2, 0.3, 0.4, 0.5])


def test_an_image_that_cannot_be_judged_is_named():
    model = build_quality(BLOCK)
    pixels = np.full((8, 8, 3), np.nan, np.float32)
    dataset = [{"image": pixels, "opinion": 0.5, "image_path": "broken.tif"}]
    with pytest.raises(ImageError, match=r"broken.tif: .*NaN"):
        list(judgements(model, dataset))
    dataset[0]["image"] = np.zeros((8, 8, 3), np.uint8)
    (judgement,) = judgements(model, dataset)
    assert 0 <= judgement.score <= 1
