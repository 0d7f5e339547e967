"""Pillow images, paths and lists of anything in a `Restorer`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from torch import nn

from restore.errors import ImageError
from restore.images import Image, read_image, write_image
from restore.inference import Restorer
from restore.networks import ImageSpec


class Inverse(nn.Module):
    spec = ImageSpec(1, 3, 3)

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x_BCHW):
        return 1 - x_BCHW * self.weight


@pytest.fixture
def restorer():
    return Restorer(Inverse(), device="cpu", precision="fp32")


def pixels(shape, dtype=np.uint8, seed=0):
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape, dtype)


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "LA"])
def test_pillow_images_come_back_as_they_came(restorer, mode):
    given = PIL.Image.fromarray(pixels((7, 9, 4))).convert(mode)
    given.info |= {"dpi": (300, 300), "exif": b"Exif\0\0x"}
    found = restorer(given)
    assert isinstance(found, PIL.Image.Image)
    assert (found.mode, found.size, found.info) == (mode, given.size, given.info)
    np.testing.assert_array_equal(np.array(found), restorer(np.array(given)))


@pytest.mark.parametrize(
    ("mode", "becomes"),
    [("1", "L"), ("P", "RGB"), ("CMYK", "RGB"), ("YCbCr", "RGB"), ("RGBX", "RGB"), ("RGBa", "RGBA")],
)
def test_other_modes_become_plain_ones(restorer, mode, becomes):
    given = PIL.Image.fromarray(pixels((7, 9, 4)))
    given = given.convert("RGB").convert(mode) if mode != "RGBa" else given.convert(mode)
    assert restorer(given).mode == becomes


def test_deep_grey_images(restorer):
    deep = PIL.Image.fromarray(pixels((5, 6), np.uint16))
    assert deep.mode == "I;16"
    found = restorer(deep)
    assert found.mode == "I;16"
    np.testing.assert_array_equal(np.array(found), 65535 - np.array(deep))
    wide = PIL.Image.fromarray(pixels((5, 6), np.uint16).astype(np.int32))
    np.testing.assert_array_equal(np.array(restorer(wide)), 65535 - np.array(wide))
    with pytest.raises(ImageError, match="beyond 0 to 65535"):
        restorer(PIL.Image.fromarray(np.full((3, 3), 70000, np.int32)))
    floats = PIL.Image.fromarray(np.random.default_rng(0).random((4, 5), np.float32))
    np.testing.assert_allclose(np.array(restorer(floats)), 1 - np.array(floats), atol=1e-6)


def test_what_pillow_does_not_hold_is_an_error():
    deep = Restorer(Inverse(), device="cpu", depth="uint16")
    with pytest.raises(ImageError, match="Pillow holds colours"):
        deep(PIL.Image.fromarray(pixels((4, 4, 3))))


@pytest.mark.parametrize("kind", [str, Path])
def test_paths_give_images_that_can_be_written(restorer, tmp_path, kind):
    write_image(tmp_path / "a.png", pixels((6, 5, 3)))
    found = restorer(kind(tmp_path / "a.png"))
    assert isinstance(found, Image)
    write_image(tmp_path / "b.png", found)
    np.testing.assert_array_equal(read_image(tmp_path / "b.png").pixels, 255 - pixels((6, 5, 3)))
    with pytest.raises(ImageError, match="nowhere"):
        restorer(kind(tmp_path / "nowhere.png"))


def test_lists_of_anything_come_back_in_order(restorer, tmp_path):
    write_image(tmp_path / "a.png", pixels((6, 5, 3)))
    things = [
        str(tmp_path / "a.png"),
        pixels((6, 5, 3), seed=1),
        pixels((6, 5, 3), seed=2),
        PIL.Image.fromarray(pixels((8, 4, 3), seed=3)),
        torch.rand(2, 3, 4, 4),
        Image(pixels((6, 5), seed=4)),
    ]
    found = restorer(things)
    assert [type(each) for each in found] == [Image, np.ndarray, np.ndarray, PIL.Image.Image, torch.Tensor, Image]
    for given, each in zip(things[1:3], found[1:3], strict=True):
        np.testing.assert_array_equal(each, 255 - given)
    np.testing.assert_array_equal(np.array(found[3]), 255 - np.array(things[3]))
    torch.testing.assert_close(found[4], 1 - things[4])
    assert restorer([]) == []
    assert isinstance(restorer((things[1],)), list)
