"""Datasets that degrade, and those of Real-ESRGAN's option files."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from restore.data.loading import training_loader
from restore.data.sampling import Draw, PatchStage, StreamSampler
from restore.degradations import sample_seed
from restore.degradations.folder import Recipe, make_pairs, plan_jobs
from restore.errors import DataError, OptionsError
from restore.images import read_image, write_image
from restore.registry import DATASETS


@pytest.fixture
def photos(tmp_path):
    """Three smooth images of 60 x 50 and one of 20 x 70."""
    noise = np.random.default_rng(0)
    folder = tmp_path / "photos"
    for number, (height, width) in enumerate([(60, 50), (60, 50), (60, 50), (20, 70)]):
        coarse = noise.integers(0, 256, (height // 10, width // 10, 3), dtype=np.uint8)
        write_image(folder / f"{number}.png", coarse.repeat(10, 0).repeat(10, 1))
    return folder


def build(kind, photos, scale=2, **arguments):
    return DATASETS.build({"type": kind, "dataroot_gt": str(photos), **arguments}, name="photos", scale=scale)


def same(one, other):
    assert one.keys() == other.keys()
    for key, value in one.items():
        assert np.array_equal(value, other[key]), key


@pytest.mark.parametrize("recipe", ["realesrgan", "realesrnet", "bsrgan", "swinir_real"])
def test_training_pairs_follow_from_seed_and_position(photos, recipe):
    dataset = build("DegradedImageDataset", photos, recipe=recipe, gt_size=32, use_hflip=True, use_rot=True)
    first = dataset[Draw(0, 3, 7)]
    assert first["lq"].shape == (16, 16, 3)
    assert first["gt"].shape == (32, 32, 3)
    assert first["lq"].dtype == first["gt"].dtype == np.uint8
    same(first, dataset[Draw(0, 3, 7)])
    assert not np.array_equal(first["lq"], dataset[Draw(0, 3, 8)]["lq"])
    assert not np.array_equal(first["lq"], dataset[Draw(0, 4, 7)]["lq"])


def test_a_patch_is_cut_from_a_larger_one_that_was_degraded(photos):
    options = {"recipe": "bicubic", "gt_size": 16}
    whole = build("DegradedImageDataset", photos, recipe="bicubic", gt_size=48)[Draw(1, 0, 5)]
    patch = build("DegradedImageDataset", photos, **options, crop_pad_size=48)[Draw(1, 0, 5)]
    places = [
        (top, left)
        for top in range(0, 33, 2)
        for left in range(0, 33, 2)
        if np.array_equal(whole["gt"][top : top + 16, left : left + 16], patch["gt"])
        and np.array_equal(whole["lq"][top // 2 : top // 2 + 8, left // 2 : left // 2 + 8], patch["lq"])
    ]
    assert places


def test_validation_images_are_those_of_the_command(photos, tmp_path):
    recipe = Recipe("realesrgan", {"scale": 2}, seed=5)
    (photos / "3.png").unlink()  # smaller than the largest kernel
    outcomes = list(make_pairs(plan_jobs(photos, tmp_path / "pairs", recipe), recipe))
    assert [outcome.error for outcome in outcomes] == [None] * 3
    dataset = build("DegradedImageDataset", photos, recipe="realesrgan", seed=5)
    for number in range(3):
        sample = dataset[number]
        for key in ("lq", "gt"):
            assert np.array_equal(sample[key], read_image(tmp_path / f"pairs/{key}/{number}.png").pixels)
        same(sample, dataset[number])


def test_the_number_of_workers_changes_nothing(photos):
    dataset = build("DegradedImageDataset", photos, gt_size=32, crop_pad_size=32)
    batches = []
    for num_workers in (0, 1):
        sampler = StreamSampler(len(dataset), [PatchStage(2)], total_iter=3, seed=1)
        batches.append(list(training_loader(dataset, sampler, num_workers=num_workers)))
    for one, other in zip(*batches, strict=True):
        assert torch.equal(one["lq"], other["lq"])
        assert one["gt_path"] == other["gt_path"]


def test_noise_is_neither_clipped_nor_rounded(photos):
    dataset = build("DegradedImageDataset", photos, 1, recipe="gaussian_noise", variables={"sigma": 50}, gt_size=32)
    sample = dataset[Draw(0, 0, 0)]
    assert sample["lq"].dtype == np.float32
    assert sample["lq"].min() < 0 or sample["lq"].max() > 1
    noise = sample["lq"] - sample["gt"] / np.float32(255)
    assert noise.std() == pytest.approx(50 / 255, rel=0.05)


def test_an_evaluation_gets_the_input_of_validation(photos):
    dataset = build("DegradedImageDataset", photos, 1, recipe="jpeg", variables={"quality": 10})
    assert [pair.name for pair in dataset.pairs] == ["0", "1", "2", "3"]
    sample = dataset[1]
    data = cv2.imencode(".jpg", sample["gt"][..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 10])[1]
    assert np.array_equal(sample["lq"], cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1])
    assert np.array_equal(dataset.degraded(sample["gt"], 1), sample["lq"])
    assert dataset.degraded(sample["gt"][..., 0], 1).shape == (60, 50)


def test_what_a_degraded_dataset_cannot_do(photos):
    with pytest.raises(OptionsError, match="Did you mean 'bsrgan'"):
        build("DegradedImageDataset", photos, recipe="bsrgn")
    with pytest.raises(OptionsError, match="scale"):
        build("DegradedImageDataset", photos, 3, recipe="jpeg")
    with pytest.raises(DataError, match="crop_pad_size 31 is not divisible by the scale 2"):
        build("DegradedImageDataset", photos, gt_size=16, crop_pad_size=31)
    with pytest.raises(DataError, match="gt_size is needed"):
        build("DegradedImageDataset", photos)[Draw(0, 0, 0)]
    with pytest.raises(DataError, match=r"3\.png.*does not fit"):
        build("DegradedImageDataset", photos)[3]
    with pytest.raises(DataError, match=r"3\.png is 70x20, smaller than the patch of 32x32.*crop_pad_size: 32"):
        build("DegradedImageDataset", photos, gt_size=32)[Draw(3, 0, 0)]
    with pytest.raises(DataError, match="restore degrade"):
        _ = build("RealESRGANDataset", photos).pairs


def test_sharp_patches_carry_the_seed_of_their_degradation(photos):
    dataset = build("RealESRGANDataset", photos, crop_pad_size=48, gt_size=32, blur_kernel_size=7)
    sample = dataset[Draw(0, 9, 4)]
    assert sample["gt"].shape == (48, 48, 3)
    assert sample["seed"] == sample_seed(9, 4)
    assert Path(sample["gt_path"]).name == "0.png"
    assert build("RealESRGANDataset", photos)[Draw(0, 9, 4)]["gt"].shape == (400, 400, 3)
    assert dataset[1]["gt"].shape == (60, 50, 3)


def test_small_images_are_mirrored_at_the_bottom_and_right(photos):
    dataset = build("RealESRGANDataset", photos, crop_pad_size=70)
    patch = dataset[Draw(3, 0, 0)]["gt"]
    image = read_image(photos / "3.png").pixels
    assert np.array_equal(patch[:20], image)
    assert np.array_equal(patch[20:39], image[18::-1])
    assert np.array_equal(patch[38:57], image[:19])


def test_a_list_names_the_references(photos, tmp_path):
    listing = tmp_path / "meta.txt"
    listing.write_text("2.png (60,50,3)\n0.png\n")
    dataset = build("RealESRGANDataset", photos, meta_info=str(listing))
    assert [Path(dataset.gt.name(index)).name for index in range(len(dataset))] == ["2.png", "0.png"]
    listing.write_text("2.png\n7.png\n")
    with pytest.raises(DataError, match=r"7\.png does not exist .*line 2"):
        build("RealESRGANDataset", photos, meta_info=str(listing))
    listing.write_text("2.png\n")
    dataset = build("RealESRGANDataset", photos, meta_info_file=str(listing))  # HAT's name for it
    assert [Path(dataset.gt.name(index)).name for index in range(len(dataset))] == ["2.png"]
    with pytest.raises(DataError, match=r"1 list\(s\) of files for 2 root\(s\)"):
        DATASETS.build({"type": "RealESRGANDataset", "dataroot_gt": [str(photos)] * 2, "meta_info": str(listing)})


def test_a_list_names_pairs(photos, tmp_path):
    small = tmp_path / "small"
    for number in range(3):
        write_image(small / f"{number}_low.png", read_image(photos / f"{number}.png").pixels[::2, ::2])
    listing = tmp_path / "pairs.txt"
    listing.write_text("1.png, 1_low.png\n0.png, 0_low.png\n")
    options = {"dataroot_lq": str(small), "meta_info": str(listing), "gt_size": 16}
    dataset = build("RealESRGANPairedDataset", photos, **options)
    assert [pair.name for pair in dataset.pairs] == ["1_low", "0_low"]
    sample = dataset[Draw(1, 0, 0)]
    assert np.array_equal(sample["gt"][::2, ::2], sample["lq"])
    by_folder = {"dataroot_lq": str(small), "filename_tmpl": "{}_low"}
    (photos / "3.png").unlink()
    assert len(build("RealESRGANPairedDataset", photos, **by_folder)) == 3
    for line, message in (("1.png", "two paths"), ("1.png, 9_low.png", "9_low.png does not exist"), ("", "no file")):
        listing.write_text(line)
        with pytest.raises(DataError, match=message):
            build("RealESRGANPairedDataset", photos, **options)
