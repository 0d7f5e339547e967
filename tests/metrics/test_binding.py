"""From the blocks of an option file to metrics."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from restore.errors import OptionsError
from restore.metrics import bind_metrics, psnr


def test_labels_and_options():
    pair = np.zeros((12, 12, 3), np.uint8), np.full((12, 12, 3), 9, np.uint8)
    pair[0][0] = 200
    metrics = bind_metrics({"whole": {"type": "psnr"}, "inside": {"type": "calculate_psnr", "crop_border": 2}})
    assert {label: metric.name for label, metric in metrics.items()} == {"whole": "psnr", "inside": "calculate_psnr"}
    assert metrics["whole"](*pair) == psnr(*pair) < metrics["inside"](*pair) == psnr(*pair, border_px=2)
    assert metrics["inside"].traits is psnr.traits or metrics["inside"].traits.higher_is_better
    assert pickle.loads(pickle.dumps(metrics["inside"]))(*pair) == metrics["inside"](*pair)


def test_every_mistake_is_reported_at_once():
    blocks = {"a": {"type": "pnsr"}, "b": {"type": "psnr", "border": 4}, "c": {"type": "fid"}}
    with pytest.raises(OptionsError) as caught:
        bind_metrics(blocks)
    assert [problem.path for problem in caught.value.problems] == [
        "val.metrics.a.type",
        "val.metrics.b.border",
        "val.metrics.c",
    ]
    assert "compares whole sets of images" in caught.value.problems[-1].message
