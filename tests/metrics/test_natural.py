"""NIQE and BRISQUE: golden and official values, batches, refusals."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import torch

from restore.errors import ImageError
from restore.metrics import METRICS, brisque, niqe, traits


def test_niqe_golden_values(golden, golden_pairs):
    for name, (restored, reference) in golden_pairs.items():
        assert niqe(restored, border_px=4) == pytest.approx(golden[name]["niqe_bicubic"], abs=1e-3)
        assert niqe(reference, border_px=4) == pytest.approx(golden[name]["niqe_hr"], abs=1e-3)


def test_basicsr_option_block(golden, golden_pairs):
    metric = METRICS.bind({"type": "calculate_niqe", "crop_border": 4, "better": "lower"})
    assert metric(golden_pairs["baby"][1]) == pytest.approx(golden["baby"]["niqe_hr"], abs=1e-3)
    assert metric(*golden_pairs["baby"][::-1]) == metric(golden_pairs["baby"][1])
    assert not traits(metric).higher_is_better
    assert not traits(metric).needs_reference


@pytest.mark.parametrize(
    ("function", "arguments", "tolerance"),
    [(niqe, {"convert_to": "gray"}, {"I04.bmp": 1e-4, "I06.bmp": 3e-3, "I08.bmp": 0.02}),
     (brisque, {}, {"I03.bmp": 2e-3, "I04.bmp": 1e-3, "I06.bmp": 2e-3})],
)  # fmt: skip
def test_official_values(shared, calibration_pairs, function, arguments, tolerance):
    """The other images of the set have flat areas, where the official score is that of its rounding errors."""
    with open(shared("data/iqa/calibration/results_official.csv")) as file:
        official = {row["Method"]: row for row in csv.DictReader(file)}[function.__name__]
    for name, bound in tolerance.items():
        assert function(calibration_pairs[name][0], **arguments) == pytest.approx(float(official[name]), abs=bound)


@pytest.mark.parametrize("function", [niqe, brisque])
def test_batches_and_grey(photo, noisy, function):
    batch = torch.from_numpy(np.stack([photo, noisy])).permute(0, 3, 1, 2)
    expected = [function(photo), function(noisy)]
    assert function(batch).tolist() == pytest.approx(expected, rel=1e-9)
    assert function(batch.float() / 255).tolist() == pytest.approx(expected, rel=1e-5)
    grey = photo[..., 1]
    assert function(grey) == function(grey[..., None])
    assert expected[0] != expected[1]


def test_input_order(photo):
    metric = METRICS.bind({"type": "calculate_niqe", "crop_border": 0, "input_order": "CHW"})
    assert metric(photo.transpose(2, 0, 1)) == niqe(photo)


@pytest.mark.parametrize(
    ("function", "image", "message"),
    [
        (niqe, np.zeros((95, 300, 3), np.uint8), "at least 96x96 px after the border; given: 95x300"),
        (niqe, np.zeros((192, 192), np.uint8), r"two blocks .* this image has 0 \(of 4\)"),
        (niqe, np.random.default_rng(0).integers(0, 255, (100, 100), dtype=np.uint8), r"has 1 \(of 1\)"),
        (brisque, np.zeros((64, 64), np.uint8), "without structure"),
        (brisque, np.zeros((15, 64), np.uint8), "16x16"),
    ],
)
def test_undefined_scores_are_refused(function, image, message):
    with pytest.raises(ImageError, match=message):
        function(image)
