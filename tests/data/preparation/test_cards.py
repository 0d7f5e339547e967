"""Dataset cards, the demo set and inputs made from references."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from restore.data.pairs import Pair
from restore.data.preparation.cards import prepare, read_card
from restore.errors import DataError, MissingError, OptionsError
from restore.images import read_image, write_image
from restore.registry import DATASETS

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("RESTORE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def card(tmp_path):
    """A function that writes a card with these lines."""

    def write(text):
        path = tmp_path / "card.yml"
        path.write_text(text)
        return path

    return write


def test_demo_set_is_carried_by_the_package(cache):
    dataset = DATASETS.build({"type": "CardDataset", "card": "demo"}, name="Demo", scale=4)
    assert dataset.name == "Demo"
    assert len(dataset) == len(dataset.pairs) == 6
    for pair in dataset.pairs:
        assert cache in pair.gt.parents
        height, width = read_image(pair.gt).pixels.shape[:2]
        assert height % 12 == width % 12 == 0
        assert min(height, width) >= 300
    assert all(image.credit and image.licence for image in read_card("demo").images)


def test_prepared_once_and_exact(card):
    path = card(
        "{name: My Set, package: skimage, folder: data, crop_multiple: 7, images: [{file: camera.png, name: c}]}"
    )
    folder = prepare(read_card(path))
    made = folder / "c.png"
    first = made.stat().st_mtime_ns
    assert prepare(read_card(path)) == folder
    assert made.stat().st_mtime_ns == first
    import skimage.data

    assert np.array_equal(read_image(made).pixels, skimage.data.camera()[:511, :511])


def test_another_crop_is_another_folder(card):
    text = "{name: x, package: skimage, folder: data, crop_multiple: %d, images: [{file: camera.png}]}"
    assert len({prepare(read_card(card(text % multiple))) for multiple in (8, 9)}) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{name: x, package: skimage, image: []}", "unknown option of a dataset card. Did you mean 'images'"),
        ("{name: x, package: skimage, images: []}", "images"),
        ("- a\n", "list of `key: value`"),
        ("name: [x\n", "not YAML"),
    ],
)
def test_mistakes_in_a_card(card, text, message):
    with pytest.raises(OptionsError, match=r"card\.yml") as caught:
        read_card(card(text))
    assert message in str(caught.value)


def test_cards_and_files_that_are_not_there(card):
    with pytest.raises(DataError, match=r"no dataset card 'dmeo'.*Did you mean 'demo'"):
        read_card("dmeo")
    with pytest.raises(MissingError, match=r"nothing\.png is not there; this version of 'skimage'"):
        prepare(read_card(card("{name: x, package: skimage, images: [{file: nothing.png}]}")))
    with pytest.raises(MissingError, match="needs the package 'no_such_package'"):
        prepare(read_card(card("{name: x, package: no_such_package, images: [{file: a.png}]}")))


def test_single_images(tmp_path):
    write_image(tmp_path / "in" / "a.png", np.full((3, 4), 7, np.uint8))
    dataset = DATASETS.build({"type": "SingleImageDataset", "dataroot_lq": str(tmp_path / "in")}, name="x", scale=4)
    assert dataset.pairs == [Pair("a", lq=tmp_path / "in" / "a.png")]
    assert dataset[0]["lq"].shape == (3, 4, 3)
