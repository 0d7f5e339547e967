"""Fields of samples: what cropping, flipping, resizing and batching do to each kind."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from restore.data.augment import Crop, Symmetry
from restore.data.fields import batched, cropped, described, grid_of, on_device, resized, turned
from restore.data.multitask import MultiTaskDataset
from restore.data.ratings.datasets import QualityDataset
from restore.data.sampling import Draw
from restore.data.views import MultiViewDataset
from restore.errors import DataError
from restore.images.resizing import resize_pixels
from restore.registry import DATASETS

CPU = torch.device("cpu")
FIELDS = {
    "lq": "image",
    "gt": "image",
    "labels": "label_map",
    "valid": "mask",
    "category": "number",
    "opinion": "number",
    "distribution": "number",
    "seed": "seed",
    "lq_path": "text",
}


@pytest.fixture
def sample():
    noise = np.random.default_rng(0)
    return {
        "lq": noise.integers(0, 256, (8, 10, 3), dtype=np.uint8),
        "gt": noise.integers(0, 256, (17, 21, 3), dtype=np.uint8),  # as in validation: a row and a column too many
        "labels": noise.integers(0, 200, (8, 10), dtype=np.uint8),
        "valid": noise.random((16, 20)) < 0.5,
        "category": 7,
        "opinion": 0.25,
        "distribution": [0.5, 0.5, 0.0],
        "seed": 2**63 - 1,
        "lq_path": "a.png",
    }


def batch_of(*samples, fields=FIELDS):
    return on_device(batched(samples, fields), fields, CPU)


def test_only_images_are_scaled(sample):
    batch = batch_of(sample, {**sample, "category": 9})
    assert batch["lq"].shape == (2, 3, 8, 10)
    torch.testing.assert_close(batch["lq"][0], torch.from_numpy(sample["lq"] / np.float32(255)).permute(2, 0, 1))
    assert batch["labels"].dtype == torch.int64
    assert np.array_equal(batch["labels"][1], sample["labels"])
    assert batch["valid"].dtype == torch.float32
    assert np.array_equal(batch["valid"][0, 0], sample["valid"])
    assert torch.equal(batch["category"], torch.tensor([7, 9]))
    assert torch.equal(batch["opinion"], torch.tensor([0.25, 0.25]))
    assert torch.equal(batch["distribution"], torch.tensor([[0.5, 0.5, 0.0]] * 2))
    assert (batch["seed"], batch["lq_path"]) == ([2**63 - 1] * 2, ["a.png"] * 2)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.int32, np.int64])
def test_classes_survive_in_every_depth(dtype):
    labels = np.array([[0, 1], [100, 50 if dtype == np.uint8 else 50_000]], dtype)
    fields = {"labels": "label_map"}
    batch = batched([{"labels": labels}] * 2, fields)
    moved = on_device(batch, fields, CPU)["labels"]
    assert moved.dtype == torch.int64
    assert moved[1].tolist() == labels.tolist()


def test_numbers_that_are_sometimes_whole_become_floats():
    batch = batch_of({"opinion": 1}, {"opinion": 0.5}, fields={"opinion": "number"})
    assert torch.equal(batch["opinion"], torch.tensor([1.0, 0.5]))


def test_larger_maps_are_cut_by_their_multiple(sample):
    assert grid_of(sample, FIELDS) == (8, 10)
    part = cropped(sample, FIELDS, Crop(1, 2, 4, 5))
    assert np.array_equal(part["lq"], sample["lq"][1:5, 2:7])
    assert np.array_equal(part["gt"], sample["gt"][2:10, 4:14])
    assert np.array_equal(part["labels"], sample["labels"][1:5, 2:7])
    assert np.array_equal(part["valid"], sample["valid"][2:10, 4:14])
    assert part["category"] == 7
    assert part["lq_path"] == "a.png"


def test_every_map_turns_in_the_same_way(sample):
    part = turned(sample, FIELDS, Symmetry(mirror=True, transpose=True))
    for name in ("lq", "gt", "labels", "valid"):
        assert np.array_equal(part[name], sample[name][:, ::-1].swapaxes(0, 1))
    batch_of(part)  # negative strides and all


def test_images_are_interpolated_and_classes_are_not(sample):
    even = cropped(sample, FIELDS, Crop(0, 0, 8, 10))
    small = resized(even, FIELDS, (4, 5))
    assert np.array_equal(small["lq"], resize_pixels(sample["lq"], size=(4, 5)))
    assert small["gt"].shape == (8, 10, 3)
    assert np.array_equal(small["labels"], sample["labels"][1::2, 1::2])
    large = resized(even, FIELDS, (16, 20))
    assert np.array_equal(large["labels"], sample["labels"].repeat(2, 0).repeat(2, 1))
    assert np.array_equal(large["valid"], sample["valid"].repeat(2, 0).repeat(2, 1))
    odd = resized(even, FIELDS, (5, 13))
    assert odd["valid"].dtype == bool
    assert set(np.unique(odd["labels"])) <= set(np.unique(sample["labels"]))
    assert resized(even, FIELDS, (8, 10))["lq"] is even["lq"]


def test_maps_that_do_not_lie_on_each_other(sample):
    with pytest.raises(DataError, match=r"gt is 21x8, not a multiple of the smallest map of 10x8"):
        cropped({**sample, "gt": np.zeros((8, 21, 3), np.uint8)}, FIELDS, Crop(0, 0, 2, 2))
    with pytest.raises(DataError, match=r"a sample of lq_path \(text\) has no image"):
        grid_of({"lq_path": "a"}, {"lq_path": "text"})


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("lq", np.zeros((8, 10), np.uint8), r"'lq' is declared as an image \(H, W, C\).*given: uint8 \(8, 10\)"),
        ("lq", np.zeros((8, 10, 3)), r"uint8, uint16 or float32; given: float64"),
        ("labels", np.zeros((8, 10), np.float32), r"'labels' is declared as a label map .*given: float32"),
        ("valid", np.zeros((8, 10), np.uint8), r"'valid' is declared as a mask .*given: uint8"),
        ("category", "cat", r"'category' is declared as a number.*given: 'cat'"),
        ("distribution", [1.0], r"'distribution' has rows of different lengths"),
        ("lq", np.zeros((9, 10, 3), np.uint8), r"'lq' has different sizes in one batch: \(8, 10, 3\), \(9, 10, 3\)"),
    ],
)
def test_values_that_are_not_of_their_kind(sample, name, value, message):
    with pytest.raises(DataError, match=message):
        batched([sample, {**sample, name: value}], FIELDS)


def test_fields_that_are_not_declared(sample):
    with pytest.raises(DataError, match=r"a sample has the fields .*, extra; its dataset declares lq \(image\), gt"):
        batched([{**sample, "extra": 1}], FIELDS)
    with pytest.raises(DataError, match="declares"):
        batched([{}], {"lq": "image"})


def test_every_dataset_declares_its_fields():
    for name in DATASETS:
        declared = DATASETS.get(name)
        if declared not in (MultiTaskDataset, MultiViewDataset, QualityDataset):  # which depend on their options
            assert declared.fields, name


def test_tasks_give_the_same_fields(images):
    root = str(images("gt"))
    sharp = {"type": "DownsampledImageDataset", "dataroot_gt": root, "scale": 2, "gt_size": 8}
    dataset = MultiTaskDataset({"a": sharp})
    assert described(dataset.fields) == "lq (image), gt (image), lq_path (text), gt_path (text), task (text)"
    batch = batch_of(dataset[Draw(0, 0, 0)], fields=dataset.fields)
    assert batch["task"] == ["a"]
    with pytest.raises(DataError, match=r"task a gives lq \(image\).*task b gives gt \(image\).*seed"):
        MultiTaskDataset({"a": sharp, "b": {"type": "RealESRGANDataset", "dataroot_gt": root, "crop_pad_size": 8}})


def test_answers_are_joined_where_all_are_known():
    fields = {"answer": "answer"}
    known = {"answer": {"image": torch.ones(3, 2, 2), "score": torch.tensor(0.5)}}
    batch = batched([known, known], fields)
    assert batch["answer"]["image"].shape == (2, 3, 2, 2)
    assert batch["answer"]["score"].tolist() == [0.5, 0.5]
    assert on_device(batch, fields, CPU)["answer"] is batch["answer"]
    assert batched([known, {"answer": None}], fields)["answer"] == [True, False]
