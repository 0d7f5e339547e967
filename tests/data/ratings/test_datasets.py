from __future__ import annotations

import itertools

import numpy as np
import pytest

from restore.data.loading import collate
from restore.data.ratings.datasets import QualityDataset
from restore.data.ratings.splits import repeated_splits, split_scenes
from restore.data.ratings.synthetic import LADDERS, SyntheticQualityDataset, distort, severities
from restore.data.sampling import Draw, PatchStage, StreamSampler
from restore.errors import DataError, OptionsError
from restore.images import write_image


def photograph(size=(48, 64), seed=0):
    rows, columns = np.mgrid[: size[0], : size[1]]
    base = 128 + 60 * np.sin(columns / 3) + 40 * np.cos(rows / 4 + seed)
    noise = np.random.default_rng(seed).normal(0, 8, (*size, 3))
    return (base[..., None] + noise).clip(0, 255).astype(np.uint8)


@pytest.fixture
def kadid(tmp_path):
    lines = ["dist_img,ref_img,dmos,var"]
    for scene in range(1, 6):
        size = (48, 64) if scene < 4 else (40, 40)
        write_image(tmp_path / "images" / f"I{scene:02}.png", photograph(size, scene))
        for level in (1, 2, 3):
            name = f"I{scene:02}_01_{level:02}.png"
            write_image(tmp_path / "images" / name, photograph(size, scene) // level)
            lines.append(f"{name},I{scene:02}.png,{5 - level},0.5")
    (tmp_path / "dmos.csv").write_text("\n".join(lines) + "\n")
    return {"format": "kadid10k", "dataroot": str(tmp_path)}


@pytest.mark.parametrize("seed", range(5))
def test_parts_share_no_reference(kadid, seed):
    train, test = (QualityDataset(**kadid, part=part, split_seed=seed, test_share=0.4) for part in ("train", "test"))
    scenes = [{opinion.reference for opinion in part.opinions} for part in (train, test)]
    assert not scenes[0] & scenes[1]
    assert [len(scene) for scene in scenes] == [3, 2]
    assert {each.image for each in train.opinions + test.opinions} == {
        each.image for each in QualityDataset(**kadid).opinions
    }


def test_repeated_splits_are_the_ones_of_their_seeds():
    scenes = [number // 3 for number in range(30)]
    splits = list(repeated_splits(scenes, 4, seed=2))
    assert splits == [split_scenes(scenes, seed=seed) for seed in (2, 3, 4, 5)]
    assert len({tuple(test) for _, test in splits}) > 1
    with pytest.raises(DataError, match="cannot be split"):
        split_scenes(["one"] * 4)
    with pytest.raises(DataError, match="between 0 and 1"):
        split_scenes(scenes, 1.0)


def test_samples_show_the_same_part_of_image_and_reference(kadid):
    dataset = QualityDataset(**kadid, crop_px=32, use_hflip=True, use_rot=True)
    for position in range(6):
        sample = dataset[Draw(1, 0, position)]
        assert sample["image"].shape == sample["reference"].shape == (32, 32, 3)
        np.testing.assert_array_equal(sample["image"], sample["reference"] // 2)
    assert sample["opinion"] == 0.5
    assert len({dataset[Draw(1, 0, position)]["image"].tobytes() for position in range(6)}) > 3
    with pytest.raises(DataError, match=r"I04_01_01.png is 40x40, smaller than crop_px 44"):
        QualityDataset(**kadid, crop_px=44)[9]


def test_sizes_that_differ_are_refused(kadid, tmp_path):
    write_image(tmp_path / "images" / "I01.png", photograph((48, 60)))
    with pytest.raises(DataError, match="differ in size: 64x48 and 60x48"):
        QualityDataset(**kadid)[0]
    with pytest.raises(DataError, match=r"2 format\(s\), 1 dataroot"):
        QualityDataset(format=["kadid10k", "tid2013"], dataroot=kadid["dataroot"])


def test_whole_images_come_in_batches_of_one_size(kadid):
    dataset = QualityDataset(**kadid, zooms=[1.0, 0.5])
    assert len(dataset) == 30
    assert len(set(dataset.groups)) == 4
    sampler = StreamSampler(len(dataset), [PatchStage(4)], total_iter=24, groups=dataset.groups)
    batches = list(sampler)
    assert all(len({dataset.groups[draw.index] for draw in batch}) == 1 for batch in batches)
    seen = [draw.index for batch in batches[: sampler.num_images // 4] for draw in batch]
    assert set(seen) == set(range(30))
    assert collate([dataset[draw] for draw in batches[0]], dataset.fields)["image"].shape[0] == 4
    again = StreamSampler(len(dataset), [PatchStage(4)], total_iter=24, groups=dataset.groups)
    again.start_at(10)
    assert list(again) == batches[10:]
    with pytest.raises(ValueError, match="single stage"):
        StreamSampler(4, [PatchStage(2, None, 3), PatchStage(4)], total_iter=9, groups=[0, 0, 1, 1])


def test_two_processes_share_the_groups():
    groups = [0] * 5 + [1] * 6
    parts = [
        list(StreamSampler(11, [PatchStage(2)], total_iter=9, groups=groups, rank=rank, world_size=2))
        for rank in range(2)
    ]
    for batches in zip(*parts, strict=True):
        assert len({groups[draw.index] for batch in batches for draw in batch}) == 1


@pytest.mark.parametrize("kind", LADDERS)
def test_ladders_rise(kind):
    clean = photograph((128, 128)).astype(float)
    errors = [np.square(distort(clean.astype(np.uint8), kind, severity) - clean).mean() for severity in severities(5)]
    assert errors[0] == 0
    assert all(low < high for low, high in itertools.pairwise(errors)), errors


def test_between_are_levels_that_the_ladder_has_not():
    assert severities(4) == [0, 0.25, 0.5, 0.75, 1]
    assert severities(4, between=True) == [0.125, 0.375, 0.625, 0.875]


def test_synthetic_samples(tmp_path):
    for seed in range(3):
        write_image(tmp_path / f"{seed}.png", photograph(seed=seed))
    dataset = SyntheticQualityDataset(dataroot_gt=str(tmp_path), kinds=["noise", "jpeg"], num_levels=2, crop_px=32)
    assert len(dataset) == 3 * (2 * 2 + 1)
    opinions = [dataset[index]["opinion"] for index in range(5)]
    assert opinions == [0.5, 0.0, 0.5, 0.0, 1.0]
    clean = dataset[4]
    np.testing.assert_array_equal(clean["image"], clean["reference"])
    np.testing.assert_array_equal(dataset[0]["image"], dataset[0]["image"])
    assert (dataset[Draw(0, 0, 1)]["image"] != dataset[Draw(0, 0, 2)]["image"]).any()
    assert (
        len(SyntheticQualityDataset(dataroot_gt=str(tmp_path), max_images=2, between=True, num_levels=2)) == 2 * 8 * 2
    )
    every = SyntheticQualityDataset(dataroot_gt=str(tmp_path), kinds="all", max_images=1, num_levels=1)
    assert len(every) == len(LADDERS) + 1
    with pytest.raises(OptionsError, match=r"unknown distortion 'nose'\. Did you mean 'noise'"):
        SyntheticQualityDataset(dataroot_gt=str(tmp_path), kinds=["nose"])
