"""Datasets: aligned crops, channels and depths, validation, and errors that name files."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from restore.data.augment import Symmetry
from restore.data.loading import Guarded
from restore.data.sampling import Draw
from restore.data.storage import sources
from restore.data.storage.packing import pack_images
from restore.errors import DataError, ImageError, OptionsError
from restore.images import read_image, write_image
from restore.images.resizing import resize_pixels
from restore.registry import DATASETS


def build(type_, **arguments):
    plain = {key: str(value) if isinstance(value, Path) else value for key, value in arguments.items()}
    return DATASETS.build({"type": type_, **plain})


def marked(folder, scale, tmpl="{}"):
    """Pairs whose pixels say where they are: red is the row and green the column, in pixels of the small image."""
    for number in range(2):
        rows, columns = np.mgrid[:20, :24].astype(np.uint8)
        small = np.stack([rows, columns, np.full_like(rows, number)], axis=-1)
        write_image(folder / "lq" / f"{tmpl.format(number)}.png", small)
        write_image(folder / "gt" / f"{number}.png", small.repeat(scale, 0).repeat(scale, 1))
    return {"dataroot_gt": folder / "gt", "dataroot_lq": folder / "lq"}


@pytest.mark.parametrize("scale", [1, 2, 3])
def test_crops_of_a_pair_show_the_same_place_in_the_same_symmetry(tmp_path, scale):
    roots = marked(tmp_path, scale)
    dataset = build("PairedImageDataset", **roots, scale=scale, gt_size=8 * scale, use_hflip=True, use_rot=True)
    corners = set()
    for position in range(40):
        sample = dataset[Draw(position % 2, 0, position)]
        assert sample["lq"].shape == (8, 8, 3)
        np.testing.assert_array_equal(sample["gt"], sample["lq"].repeat(scale, 0).repeat(scale, 1))
        corners.add(tuple(map(int, sample["lq"][0, 0])))
    assert len(corners) > 30


def test_all_eight_symmetries_come_and_only_allowed_ones():
    def drawn(**allowed):
        random = np.random.default_rng(0)
        return {Symmetry.draw(random, **allowed) for _ in range(200)}

    assert len(drawn(mirror=True, rotate=True)) == 8
    assert drawn(mirror=True, rotate=False) == {Symmetry(), Symmetry(mirror=True)}
    assert drawn(mirror=False, rotate=False) == {Symmetry()}
    square = np.arange(4).reshape(2, 2)
    assert len({Symmetry.of(symmetry, square).tobytes() for symmetry in drawn(mirror=True, rotate=True)}) == 8


@pytest.mark.parametrize("name", ["geometric_augs", "use_flip"])
def test_names_of_the_forks(tmp_path, name):
    dataset = build("Dataset_PairedImage", **marked(tmp_path, 1), gt_size=8, **{name: True})
    plain = build("PairedImageDataset", **marked(tmp_path, 1), gt_size=8)
    pairs = [(dataset[Draw(0, 0, p)]["lq"], plain[Draw(0, 0, p)]["lq"]) for p in range(20)]
    assert any(not np.array_equal(one, other) for one, other in pairs)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("scale", [2, 4])
def test_a_downsampled_patch_is_the_patch_of_the_downsampled_image(images, scale, dtype):
    root = images("gt", size=(61, 70), dtype=dtype)
    dataset = build("DownsampledImageDataset", dataroot_gt=root, scale=scale, gt_size=8 * scale)
    for position in range(30):
        sample = dataset[Draw(position % 3, 0, position)]
        gt = read_image(sample["gt_path"]).pixels
        height, width = gt.shape[0] // scale, gt.shape[1] // scale
        whole = resize_pixels(gt[: height * scale, : width * scale], size=(height, width))
        found = [
            (top, left)
            for top in range(height - 7)
            for left in range(width - 7)
            if np.array_equal(gt[top * scale :, left * scale :][: 8 * scale, : 8 * scale], sample["gt"])
        ]
        assert len(found) == 1
        ((top, left),) = found
        np.testing.assert_array_equal(sample["lq"], whole[top : top + 8, left : left + 8])
        assert sample["lq"].dtype == dtype


def test_whole_images_for_validation(images):
    roots = {"dataroot_gt": images("gt", size=(25, 31)), "dataroot_lq": images("lq", size=(12, 15))}
    sample = build("PairedImageDataset", **roots, scale=2)[1]
    assert sample["lq"].shape == (12, 15, 3)
    assert sample["gt"].shape == (24, 30, 3)
    sample = build("DownsampledImageDataset", dataroot_gt=roots["dataroot_gt"], scale=2)[0]
    assert (sample["lq"].shape, sample["gt"].shape) == ((12, 15, 3), (24, 30, 3))


@pytest.mark.parametrize(("color", "channels"), [(None, 3), ("rgb", 3), ("y", 1), ("grey", 1), ("gray", 1)])
@pytest.mark.parametrize("stored", [1, 3, 4])
def test_channels(images, stored, color, channels):
    roots = {name: images(name[-2:], channels=stored) for name in ("dataroot_gt", "dataroot_lq")}
    sample = build("PairedImageDataset", **roots, gt_size=8, color=color)[Draw(0, 0, 0)]
    assert sample["lq"].shape == sample["gt"].shape == (8, 8, channels)


def test_luma_is_that_of_the_metrics(images):
    import torch

    from restore.images import rgb_to_y

    root = images("gt", count=1)
    sample = build("PairedImageDataset", dataroot_gt=root, dataroot_lq=root, color="y")[0]
    rgb = torch.from_numpy(read_image(root / "00.png").pixels / np.float32(255)).permute(2, 0, 1)[None]
    np.testing.assert_allclose(sample["gt"][..., 0], rgb_to_y(rgb)[0, 0].numpy(), atol=2e-7)


def test_luma_of_grey_files_is_warned_of_once(images, caplog):
    sources._warn_of_studio_luma.cache_clear()
    root = images("grey", channels=1)
    dataset = build("PairedImageDataset", dataroot_gt=root, dataroot_lq=root, color="y")
    samples = [dataset[0], dataset[1]]
    assert caplog.text.count("color: grey") == 1
    assert min(sample["gt"].min() for sample in samples) >= 16 / 255


def test_sixteen_bits_survive(images):
    root = images("gt", dtype=np.uint16)
    sample = build("PairedImageDataset", dataroot_gt=root, dataroot_lq=root, gt_size=8)[Draw(0, 0, 0)]
    assert sample["gt"].dtype == np.uint16


def test_mean_and_std(images):
    root = images("gt", count=1)
    plain = build("PairedImageDataset", dataroot_gt=root, dataroot_lq=root)[0]
    dataset = build("PairedImageDataset", dataroot_gt=root, dataroot_lq=root, mean=[0.5, 0.4, 0.3], std=[0.5, 1, 2])
    expected = (plain["lq"] / np.float32(255) - [0.5, 0.4, 0.3]) / [0.5, 1, 2]
    np.testing.assert_allclose(dataset[0]["lq"], expected, atol=1e-6)


def test_several_roots_and_sub_folders(images):
    one, two = images("one/a", 2), images("two", 3)
    dataset = build("DownsampledImageDataset", dataroot_gt=[str(one.parent), str(two)], recursive=True, scale=2)
    assert len(dataset) == 5
    paired = DATASETS.build(
        {
            "type": "PairedImageDataset",
            "dataroot_gt": [str(one), str(two)],
            "dataroot_lq": [str(one), str(two)],
        }
    )
    assert len(paired) == 5
    with pytest.raises(DataError, match="2 dataroot_gt and 1 dataroot_lq"):
        DATASETS.build({"type": "PairedImageDataset", "dataroot_gt": [str(one), str(two)], "dataroot_lq": [str(one)]})


def test_packed_images_are_the_same_images(images, tmp_path):
    root = images("gt", dtype=np.uint16, count=2)
    images("gt", channels=1, count=1)
    arguments = {"dataroot_gt": root, "scale": 2, "gt_size": 8}
    plain = build("DownsampledImageDataset", **arguments)
    packed = build("DownsampledImageDataset", **arguments, cache="packed", cache_root=str(tmp_path / "packs"))
    for position in range(6):
        draw = Draw(position % len(plain), 0, position)
        np.testing.assert_array_equal(plain[draw]["gt"], packed[draw]["gt"])
        np.testing.assert_array_equal(plain[draw]["lq"], packed[draw]["lq"])
    made = sorted((tmp_path / "packs").iterdir())
    build("DownsampledImageDataset", **arguments, cache="packed", cache_root=str(tmp_path / "packs"))
    assert sorted((tmp_path / "packs").iterdir()) == made
    write_image(root / "00.png", np.zeros((40, 40, 3), np.uint8))
    changed = build("DownsampledImageDataset", **arguments, cache="packed", cache_root=str(tmp_path / "packs"))
    assert changed[0]["gt"].max() == 0


def test_a_pack_leaves_out_what_cannot_be_decoded(images, tmp_path, caplog):
    root, whole = images("gt", count=3), images("again", count=3)
    (root / "01.png").write_bytes(b"no image")
    block = {"dataroot_gt": str(root), "cache": "packed", "cache_root": str(tmp_path / "packs"), "gt_size": 8}
    packed = build("DownsampledImageDataset", **block, scale=2)
    assert "left out: cannot read" in caplog.text
    assert packed[Draw(2, 0, 0)]["gt"].shape == (8, 8, 3)
    with pytest.raises(ImageError, match=r"gt/01\.png"):
        packed[1]
    assert "00.png" in Guarded(packed, skip=True)[Draw(0, 0, 0)]["gt_path"]
    assert "02.png" in Guarded(packed, skip=True)[Draw(1, 0, 0)]["gt_path"]
    (root / "01.png").write_bytes((whole / "01.png").read_bytes())  # put right, and read without another pack
    assert packed[1]["gt"].shape == (24, 32, 3)


def test_processes_that_want_the_same_pack_write_it_once(images, tmp_path):
    paths, calls = sorted(images("gt", count=2).iterdir()), []

    def read(index):
        calls.append(index)
        time.sleep(0.02)  # long enough for the others to come
        return read_image(paths[index]).pixels

    with ThreadPoolExecutor(3) as pool:
        packs = list(pool.map(lambda _: pack_images(paths, read, tmp_path / "packs"), range(3)))
    assert sorted(calls) == [0, 1]
    assert [len(pack) for pack in packs] == [2, 2, 2]


def test_noise_has_the_level_that_was_asked_for(images):
    root = images("gt", count=1, size=(128, 128))
    dataset = build("GaussianNoiseDataset", dataroot_gt=root, gt_size=128, sigma_type="constant", sigma_range=25)
    sample = dataset[Draw(0, 0, 0)]
    assert (sample["gt"].dtype, sample["lq"].dtype) == (np.uint8, np.float32)
    assert (255 * sample["lq"] - sample["gt"]).std() == pytest.approx(25, rel=0.02)
    blind = build("Dataset_GaussianDenoising", dataroot_gt=root, dataroot_lq="none", gt_size=128, sigma_range=[0, 50])
    levels = [(255 * s["lq"] - s["gt"]).std() for s in (blind[Draw(0, 0, position)] for position in range(20))]
    assert 0 < min(levels) < 20 < 35 < max(levels) < 52
    np.testing.assert_array_equal(blind[0]["lq"], blind[0]["lq"])
    assert (255 * blind[0]["lq"] - blind[0]["gt"]).std() == pytest.approx(25, rel=0.02)


def test_noise_of_validation_is_that_of_published_figures(images):
    dataset = build("GaussianNoiseDataset", dataroot_gt=images("gt", count=2, channels=1), sigma_test=50, in_ch=1)
    for sample in (dataset[0], dataset[1]):
        noise = np.random.RandomState(0).normal(0, 50 / 255, sample["gt"].shape)
        np.testing.assert_allclose(sample["lq"], sample["gt"] / 255 + noise, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_reduced_inputs_of_whole_images(tmp_path, dtype):
    pixels = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (26, 33, 3)).astype(dtype)
    write_image(tmp_path / "a.png", pixels)
    dataset = build("DownsampledImageDataset", dataroot_gt=tmp_path, scale=4)
    expected = resize_pixels(pixels[:24, :32], size=(6, 8))
    np.testing.assert_array_equal(dataset.degraded(pixels, 0), expected)
    np.testing.assert_array_equal(dataset[0]["lq"], expected)
    with pytest.raises(DataError, match=r"a\.png' is 9x3: too small to be reduced 4 times"):
        dataset.degraded(pixels[:3, :9], 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gt_size": 9}, "gt_size 9 is not divisible by the scale 2"),
        ({"gt_size": 64}, "smaller than the patch of 32x32"),
        ({"gt_size": None}, "gt_size is needed"),
    ],
)
def test_patch_sizes_that_cannot_be(images, change, message):
    roots = {"dataroot_gt": images("gt", size=(32, 48)), "dataroot_lq": images("lq", size=(16, 24))}
    with pytest.raises(DataError, match=message):
        build("PairedImageDataset", **roots, scale=2, **change)[Draw(0, 0, 0)]


def test_sizes_that_do_not_match_name_both_files(images):
    roots = {"dataroot_gt": images("gt", size=(32, 48)), "dataroot_lq": images("lq", size=(16, 23))}
    dataset = build("PairedImageDataset", **roots, scale=2, gt_size=16)
    for item in (0, Draw(0, 0, 0)):
        with pytest.raises(DataError, match=r"gt/00\.png is 48x32, which is not 2 times .*lq/00\.png of 23x16"):
            dataset[item]


def test_a_truncated_image_is_named(images):
    root = images("gt")
    data = (root / "01.png").read_bytes()
    (root / "01.png").write_bytes(data[: len(data) // 2])
    with pytest.raises(ImageError, match=r"gt/01\.png"):
        build("DownsampledImageDataset", dataroot_gt=root, scale=2)[1]


def test_unknown_arguments_are_named():
    with pytest.raises(OptionsError, match=r"gt_sise.*gt_size"):
        DATASETS.build({"type": "PairedImageDataset", "dataroot_gt": "x", "dataroot_lq": "x", "gt_sise": 4})
    with pytest.raises(OptionsError, match="color"):
        DATASETS.build({"type": "GaussianNoiseDataset", "dataroot_gt": "x", "color": "red"})
