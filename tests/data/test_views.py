"""Several views of one image: seeded, each kind of field treated as what it is."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from restore.data.fields import described
from restore.data.loading import DeviceLoader, training_loader
from restore.data.sampling import Draw, PatchStage, StreamSampler, generator
from restore.data.views import View
from restore.errors import DataError, OptionsError
from restore.images.resizing import resize_pixels
from restore.registry import DATASETS

CPU = torch.device("cpu")
DRAW = Draw(1, 7, 40)


@pytest.fixture
def views_of(images):
    """A function: the views of a folder of 32 x 24 images."""
    root = images("photographs", count=4)

    def build(*views, dataset=None, **options):
        source = dataset or {"type": "SingleImageDataset", "dataroot_lq": str(root)}
        return DATASETS.build({"type": "MultiViewDataset", "dataset": source, "views": list(views), **options})

    return build


class Labelled:
    """A sample with a map of every kind, where the label of a pixel is its place."""

    fields = {"image": "image", "labels": "label_map", "valid": "mask", "category": "number", "image_path": "text"}  # noqa: RUF012

    def __len__(self):
        return 1

    def __getitem__(self, draw):
        labels = np.arange(600, dtype=np.uint16).reshape(20, 30)
        image = (labels[..., None] / np.float32(600)).repeat(3, 2)
        return {"image": image, "labels": labels, "valid": labels % 2 == 0, "category": 3, "image_path": "a.png"}


@pytest.fixture
def labelled(monkeypatch):
    monkeypatch.setitem(DATASETS._components, "Labelled", Labelled)
    return "Labelled"


def test_a_view_is_a_part_of_the_image(views_of):
    dataset = views_of({"crop_px": 8}, {"crop_px": 6})
    assert described(dataset.fields) == "lq_1 (image), lq_2 (image), lq_path (text)"
    sample, whole = dataset[DRAW], dataset.dataset[1]["lq"]
    assert sample["lq_path"].endswith("01.png")
    for name, side in (("lq_1", 8), ("lq_2", 6)):
        assert sample[name].shape == (side, side, 3)
        windows = np.lib.stride_tricks.sliding_window_view(whole, (side, side, 3))
        assert (windows[:, :, 0] == sample[name]).all((2, 3, 4)).sum() == 1


def test_views_are_independent_and_follow_from_seed_and_position(views_of):
    dataset = views_of({"crop_px": 8, "use_hflip": True}, {"crop_px": 8, "use_hflip": True})
    again = views_of({"crop_px": 8, "use_hflip": True}, {"crop_px": 8, "use_hflip": True}, {"crop_px": 4})
    one, other = dataset[DRAW], again[DRAW]
    assert all(np.array_equal(one[name], other[name]) for name in ("lq_1", "lq_2"))
    assert not np.array_equal(one["lq_1"], one["lq_2"])
    for changed in (DRAW._replace(seed=8), DRAW._replace(position=41)):
        assert not np.array_equal(dataset[changed]["lq_1"], one["lq_1"])


def test_streams_of_a_generator_are_apart():
    first = generator(7, 40).integers(2**63, size=1000)
    assert np.array_equal(first, generator(7, 40, 0).integers(2**63, size=1000))
    assert not set(first) & set(generator(7, 40, 1).integers(2**63, size=1000))


def test_zoom_resizes_the_part(views_of):
    dataset, whole = views_of({"crop_px": 6, "zoom": [0.5, 0.5]}), views_of({"crop_px": 12})
    small, large = dataset[DRAW]["lq_1"], whole[DRAW]["lq_1"]
    assert small.shape == (6, 6, 3)
    random = generator(7, 40, 1)
    random.uniform(0.5, 0.5)
    top, left = random.integers(24 - 12 + 1), random.integers(32 - 12 + 1)
    part = dataset.dataset[1]["lq"][top : top + 12, left : left + 12]
    assert np.array_equal(small, resize_pixels(part, size=(6, 6)))
    assert np.array_equal(large, part)


def test_each_kind_is_treated_as_what_it_is(labelled):
    view = {"crop_px": 10, "zoom": [0.6, 1.4], "use_hflip": True, "use_rot": True}
    dataset = DATASETS.build({"type": "MultiViewDataset", "dataset": labelled, "views": [view, view]})
    (batch,) = DeviceLoader(training_loader(dataset, StreamSampler(1, [PatchStage(4)], total_iter=1)), CPU)
    for number in (1, 2):
        labels, valid = batch[f"labels_{number}"], batch[f"valid_{number}"]
        assert labels.shape == (4, 10, 10)
        assert labels.dtype == torch.int64
        assert torch.equal(valid[:, 0], (labels % 2 == 0).float())  # the nearest of both is the same pixel
        assert (batch[f"image_{number}"][:, 0] * 600 - labels).abs().max() < 62  # and close to the image's
    assert batch["category"].tolist() == [3] * 4
    assert batch["image_path"] == ["a.png"] * 4


def test_pairs_keep_their_scale(images):
    inner = {"type": "DownsampledImageDataset", "dataroot_gt": str(images("gt")), "gt_size": 24}
    view = {"crop_px": 6, "use_hflip": True, "use_rot": True}
    dataset = DATASETS.build({"type": "MultiViewDataset", "dataset": inner, "views": [view, view]}, scale=2)
    sample = dataset[DRAW]
    assert sample["lq_2"].shape == (6, 6, 3)
    assert sample["gt_2"].shape == (12, 12, 3)
    inner = dataset.dataset[DRAW]
    plain = View(crop_px=6).part(inner, dataset.dataset.fields, generator(7, 40, 2))
    places = np.lib.stride_tricks.sliding_window_view(inner["gt"], (12, 12, 3))[::2, ::2, 0]
    assert (places == plain["gt"]).all((2, 3, 4)).sum() == 1


def test_views_at_the_same_place_differ_by_their_recipe(views_of):
    noise = {"recipe": "gaussian_noise", "variables": {"sigma": 25}}
    dataset = views_of({"crop_px": 8}, {"crop_px": 8, **noise}, {"crop_px": 8, **noise}, same_place=True)
    sample = dataset[DRAW]
    clean, noisy = sample["lq_1"] / np.float32(255), [sample["lq_2"], sample["lq_3"]]
    for image in noisy:
        assert 0.05 < (image - clean).std() < 0.2
        assert image.dtype == np.float32  # the recipe does not round
    assert not np.array_equal(*noisy)
    assert np.array_equal(sample["lq_2"], dataset[DRAW]["lq_2"])
    rounded = views_of({"crop_px": 8, "recipe": "jpeg"})[DRAW]["lq_1"]
    assert rounded.dtype == np.uint8


def test_workers_and_restarts_change_nothing(views_of):
    dataset = views_of({"crop_px": 8, "zoom": [0.5, 1]}, {"crop_px": 8, "recipe": "gaussian_noise"})

    def batches(start, workers):
        sampler = StreamSampler(4, [PatchStage(3)], total_iter=4, seed=5)
        sampler.start_at(start)
        return list(DeviceLoader(training_loader(dataset, sampler, num_workers=workers), CPU))

    for one, other in zip(batches(0, 0)[2:], batches(2, 1), strict=True):
        assert one["lq_path"] == other["lq_path"]
        assert all(torch.equal(one[name], other[name]) for name in ("lq_1", "lq_2"))


@pytest.mark.parametrize(
    ("views", "options", "message"),
    [
        ([], {}, "it has no views"),
        ([{"crop_px": 4}, {"crop_px": 8}], {"same_place": True}, "at the same place have one crop_px"),
        ([{"crop_pz": 4}], {}, r"^x\.views\.0\.crop_pz: unknown option.*Did you mean 'crop_px'"),
        ([{"crop_px": 4, "zoom": [2, 1]}], {}, r"^x\.views\.0: zoom holds the smallest and the largest"),
        ([{"zoom": [1, 2]}], {}, r"zoom needs crop_px"),
        ([{"recipe": "nois"}], {}, r"unknown pipeline 'nois'"),
        ([{}], {"dataset": {"type": "SingleImageDataset"}}, r"^x\.dataset\.dataroot_lq: missing"),
    ],
)
def test_mistakes(images, views, options, message):
    source = {"type": "SingleImageDataset", "dataroot_lq": str(images("photographs"))}
    block = {"type": "MultiViewDataset", "dataset": source, "views": views, **options}
    with pytest.raises((DataError, OptionsError), match=message):
        DATASETS.build(block, path="x")


def test_what_cannot_be_cut_or_degraded_is_named(views_of, images):
    with pytest.raises(DataError, match=r"01\.png: an image of 32x24 is smaller than a view of 30x30 \(crop_px 30"):
        views_of({"crop_px": 30})[DRAW]
    sharp = {"type": "RealESRGANDataset", "dataroot_gt": str(images("gt")), "crop_pad_size": 16}
    with pytest.raises(DataError, match=r"a recipe degrades lq or image; given: gt \(image\)"):
        views_of({"recipe": "gaussian_noise"}, dataset=sharp)
