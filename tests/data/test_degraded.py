"""Sharp images degraded as they are loaded."""

from __future__ import annotations

import pickle

import cv2
import numpy as np
import pytest

from restore.data.sampling import Draw
from restore.errors import DataError, OptionsError
from restore.images import read_image
from restore.registry import DATASETS


def build(**arguments):
    block = {key: str(value) if key == "dataroot_gt" else value for key, value in arguments.items()}
    return DATASETS.build({"type": "DegradedImageDataset", **block})


def jpeg(pixels, quality):
    data = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1]


def test_whole_images_are_degraded_the_same_way_each_time(images):
    root = images("gt", size=(40, 56))
    dataset = build(dataroot_gt=root, pipeline="jpeg", variables={"quality": 10})
    sample = dataset[1]
    np.testing.assert_array_equal(sample["gt"], read_image(root / "01.png").pixels)
    np.testing.assert_array_equal(sample["lq"], jpeg(sample["gt"], 10))
    np.testing.assert_array_equal(dataset.degraded(sample["gt"], 1), sample["lq"])
    assert dataset.degraded(sample["gt"][..., 0], 1).shape == (40, 56)


@pytest.mark.parametrize("margin", [0, 8])
def test_a_patch_is_cut_out_of_what_was_degraded_around_it(images, margin):
    """With a margin, patches do not all begin where the 8 x 8 blocks of the JPEG do."""
    dataset = build(
        dataroot_gt=images("gt", size=(64, 64)), pipeline="jpeg", variables={"quality": 5}, gt_size=16, margin_px=margin
    )
    on_blocks = 0
    for position in range(12):
        sample = dataset[Draw(0, 0, position)]
        assert sample["lq"].shape == sample["gt"].shape == (16, 16, 3)
        on_blocks += np.array_equal(sample["lq"], jpeg(sample["gt"], 5))
        np.testing.assert_array_equal(sample["lq"], dataset[Draw(0, 0, position)]["lq"])
    assert on_blocks == 12 if margin == 0 else on_blocks < 3


def test_both_images_of_a_patch_show_the_same_place(images):
    dataset = build(
        dataroot_gt=images("gt", size=(64, 48)),
        pipeline="bicubic",
        scale=2,
        gt_size=24,
        margin_px=12,
        use_hflip=True,
        use_rot=True,
    )
    for position in range(8):
        sample = dataset[Draw(position % 2, 0, position)]
        assert (sample["lq"].shape, sample["lq"].dtype, sample["gt"].shape) == ((12, 12, 3), np.uint8, (24, 24, 3))
        small = np.float32(sample["gt"]).reshape(12, 2, 12, 2, 3).mean((1, 3))
        assert np.corrcoef(small.ravel(), sample["lq"].ravel())[0, 1] > 0.9


def test_pipelines_that_do_not_round_give_floats(images):
    sample = build(
        dataroot_gt=images("gt", channels=1), pipeline="gaussian_noise", variables={"sigma": 50}, color="grey"
    )[0]
    assert (sample["lq"].dtype, sample["gt"].dtype, sample["lq"].shape) == (np.float32, np.uint8, sample["gt"].shape)
    assert sample["lq"].min() < 0
    assert sample["lq"].max() > 1


def test_it_travels_to_other_processes(images):
    dataset = build(dataroot_gt=images("gt", size=(80, 80)), pipeline="bsrgan", scale=4, gt_size=64)
    again = pickle.loads(pickle.dumps(dataset))
    np.testing.assert_array_equal(again[Draw(0, 0, 3)]["lq"], dataset[Draw(0, 0, 3)]["lq"])


def test_mistakes(images):
    root = images("gt")
    with pytest.raises(DataError, match="the scale is 1, but the pipeline bicubic reduces by 4"):
        build(dataroot_gt=root, pipeline="bicubic")
    with pytest.raises(OptionsError, match="Did you mean 'jpeg'"):
        build(dataroot_gt=root, pipeline="jpg")
    with pytest.raises(OptionsError, match=r"variables\.qualty: this pipeline has no such variable"):
        build(dataroot_gt=root, pipeline="jpeg", variables={"qualty": 3})
