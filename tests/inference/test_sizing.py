"""Results of another size than the network's: exact resizing after it, for every kind of image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from restore.errors import OptionsError
from restore.images import Image, resize, to_pixels, to_tensor
from restore.inference import Restorer
from restore.inference.sizing import sizing_of
from restore.networks import ImageSpec


class Twice(nn.Module):
    """Doubles each pixel, and leaves [0, 1] a little, as networks do."""

    spec = ImageSpec(2, 3, 3)

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(1.3))

    def forward(self, x_BCHW):
        return (x_BCHW.repeat_interleave(2, 2).repeat_interleave(2, 3) - 0.5) * self.weight + 0.5


def restorer(**options):
    return Restorer(Twice(), device="cpu", precision="fp32", **options)


def random(shape, dtype, seed=0):
    draw = np.random.default_rng(seed)
    return draw.random(shape, np.float32) if dtype == "float32" else draw.integers(0, np.iinfo(dtype).max, shape, dtype)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("channels", [(), (2,), (3,), (4,)])
@pytest.mark.parametrize("options", [{"outscale": 3}, {"outscale": 0.4}, {"size": "31x7"}, {"size": (9, 40)}])
def test_pixels_are_those_of_the_network_resized(dtype, channels, options):
    pixels = random((11, 13, *channels), dtype)
    found = restorer(**options)(pixels)
    exact = restorer(depth="float32")(pixels)  # the same, before it is rounded
    assert found.dtype == pixels.dtype
    expected = to_pixels(resize(to_tensor(exact), size=found.shape[:2]), dtype)
    tolerance = 0 if dtype != "float32" else 1e-6
    np.testing.assert_allclose(found.astype(float), expected.reshape(found.shape).astype(float), atol=tolerance)


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ({"outscale": 2}, (22, 26)),
        ({"outscale": 1}, (11, 13)),
        ({"outscale": 1.5}, (16, 20)),
        ({"outscale": 0.01}, (1, 1)),
        ({"size": "26x22"}, (22, 26)),
        ({"size": "1920x1080"}, (1080, 1920)),
        ({"size": "26x"}, (22, 26)),
        ({"size": "x33"}, (33, 39)),
        ({"size": "5X4"}, (4, 5)),
        ({"size": (7, 3)}, (3, 7)),
        ({}, (22, 26)),
    ],
)
def test_sizes(options, size):
    each = restorer(**options)
    assert each.size_of(11, 13) == size
    assert each.result_of((11, 13, 4), "uint16") == ((*size, 4), "uint16")
    assert each(random((11, 13, 3), "uint8")).shape == (*size, 3)
    x_BCHW = torch.rand(2, 3, 11, 13)
    assert each(x_BCHW).shape == (2, 3, *size)


def test_the_networks_own_size_is_its_own_pixels():
    pixels = random((9, 8, 4), "uint8")
    np.testing.assert_array_equal(restorer(outscale=2)(pixels), restorer()(pixels))
    np.testing.assert_array_equal(restorer(size="16x18")(pixels), restorer()(pixels))


def test_tensors_are_resized_without_being_clamped():
    x_BCHW = torch.rand(1, 3, 6, 5)
    torch.testing.assert_close(restorer(outscale=3)(x_BCHW), resize(restorer()(x_BCHW), size=(18, 15)))


def test_streams_rows_and_outputs():
    pixels = [random((6, 5, 3), "uint8", seed) for seed in range(5)]
    each = restorer(outscale=3)
    alone = [each(image) for image in pixels]
    for one, other in zip(each.stream(pixels), alone, strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(np.concatenate(list(each.rows(pixels[0]))), alone[0])
    out = np.empty((18, 15, 3), np.uint8)
    assert each(pixels[0], out=out) is out
    np.testing.assert_array_equal(out, alone[0])
    with pytest.raises(OptionsError, match="the result is"):
        each(pixels[0], out=np.empty((12, 10, 3), np.uint8))


def test_tiles_are_joined_before_resizing():
    pixels = random((70, 90, 3), "uint8")
    np.testing.assert_array_equal(
        restorer(outscale=1.7, tile=32, tile_overlap=8)(pixels), restorer(outscale=1.7, tile=None)(pixels)
    )


def test_float_ranges_stay(caplog):
    pixels = random((8, 9, 3), "float32") * 200 - 100
    found = restorer(outscale=3, input_range=(-100, 100))(pixels)
    plain = restorer(outscale=3)((pixels + 100) / 200)
    np.testing.assert_allclose(found, plain * 200 - 100, atol=1e-3)


def test_images_keep_what_their_file_said():
    image = Image(random((6, 5, 3), "uint8"), icc=b"profile")
    found = restorer(size="x7")(image)
    assert (found.pixels.shape, found.icc) == ((7, 6, 3), b"profile")


def test_other_proportions_are_said_once(caplog):
    each = restorer(size="40x20")
    each(random((10, 20, 3), "uint8"))
    assert not caplog.text
    for _ in range(2):
        each(random((10, 10, 3), "uint8"))
    assert caplog.text.count("is stretched: 40x or x20 keeps them") == 1


@pytest.mark.parametrize(
    "options",
    [
        {"outscale": 0},
        {"outscale": -1},
        {"outscale": float("nan")},
        {"outscale": float("inf")},
        {"outscale": 65},
        {"size": ""},
        {"size": "x"},
        {"size": "1920"},
        {"size": "0x5"},
        {"size": "5x0"},
        {"size": "-5x5"},
        {"size": "5x5x5"},
        {"size": "1.5x2"},
        {"size": "5 x 5"},
        {"size": "٣x٣"},
        {"size": "100001x5"},
        {"size": (5,)},
        {"size": (5, 6, 7)},
        {"outscale": 2, "size": "5x5"},
    ],
)
def test_what_is_no_size(options):
    with pytest.raises(OptionsError):
        sizing_of(**options)


def test_describing():
    assert "resized to 3 times the input" in repr(restorer(outscale=3))
    assert "resized to x720" in restorer(size="x720").describe()
    assert repr(restorer()).startswith("Restorer(Twice x2 on cpu, fp32")
