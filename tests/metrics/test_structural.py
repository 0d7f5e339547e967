"""GMSD, FSIM, VIF, and SSIM and MS-SSIM on grey: official values of the calibration set, batches, refusals."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import torch

from restore.errors import ImageError
from restore.metrics import METRICS, fsim, gmsd, psnr, ssim, vif


@pytest.mark.parametrize(
    ("block", "tolerance"),
    [
        ({"type": "gmsd"}, 6e-5),
        ({"type": "fsim"}, 1e-4),
        ({"type": "vif"}, 1e-4),
        ({"type": "ssim", "luma": "grey", "y_rounding": "matlab"}, 6e-4),
        ({"type": "psnr"}, 6e-3),
    ],
    ids=lambda value: value["type"] if isinstance(value, dict) else "",
)
def test_official_values(shared, calibration_pairs, block, tolerance):
    with open(shared("data/iqa/calibration/results_official.csv")) as file:
        official = {row["Method"]: row for row in csv.DictReader(file)}[block["type"]]
    for name in ("I03.bmp", "I06.bmp", "I19.bmp"):
        assert METRICS.bind(block)(*calibration_pairs[name]) == pytest.approx(float(official[name]), abs=tolerance)


@pytest.mark.parametrize(("function", "best"), [(gmsd, 0), (fsim, 1), (vif, 1)])
def test_batches_grey_and_identical_images(photo, noisy, function, best):
    cut = [image[:97, :110] for image in (photo, noisy)]
    photo_BCHW, noisy_BCHW = (torch.from_numpy(image.copy()).permute(2, 0, 1)[None] for image in cut)
    scores = function(torch.cat([noisy_BCHW, photo_BCHW]), torch.cat([photo_BCHW, photo_BCHW]))
    assert scores.tolist() == pytest.approx([function(cut[1], cut[0]), best], abs=1e-9)
    assert abs(scores[0] - best) > 0.01
    grey = function(cut[1][..., 0], cut[0][..., 0])
    assert abs(grey - best) > 0.01


@pytest.mark.parametrize("function", [gmsd, fsim, vif])
def test_flat_images_are_alike(function):
    flat = np.full((80, 90), 128, np.uint8)
    assert np.isfinite(function(flat, flat))


def test_raised_contrast_is_worth_more_information(photo):
    softer = (photo / 2 + 64).round().astype(np.uint8)
    assert vif(photo, softer) > 1.01
    assert vif(softer, photo) < 0.99


@pytest.mark.parametrize(("function", "least"), [(gmsd, 6), (fsim, 16), (vif, 72)])
def test_small_images(function, least):
    noise = np.random.default_rng(0).integers(0, 255, (least, least + 1, 3), dtype=np.uint8)
    assert np.isfinite(function(noise, 255 - noise))
    with pytest.raises(ImageError, match=f"at least {least}x{least}"):
        function(noise[1:], noise[1:])


def test_grey_luma(photo, noisy):
    grey = [np.round(image @ np.array([0.299, 0.587, 0.114]) + 1e-9).astype(np.uint8) for image in (noisy, photo)]
    assert psnr(noisy, photo, luma="grey", y_rounding="matlab") == pytest.approx(psnr(*grey), abs=1e-3)
    assert ssim(noisy, photo, luma="grey") == pytest.approx(ssim(*grey), abs=1e-3)
