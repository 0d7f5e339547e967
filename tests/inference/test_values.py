"""Float values, depths and results that are no numbers: nothing is clipped, rounded or spread without a word."""

from __future__ import annotations

import logging
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from restore.errors import ImageError, OptionsError
from restore.images import Image, convert_depth, flatten, read_image, require_unit, write_image
from restore.inference import Restorer, fitting
from restore.inference.folder import restore_files
from restore.jobs import plan_jobs
from restore.networks import ImageSpec

SHAPES = [(9, 7), (9, 7, 1), (9, 7, 2), (9, 7, 3), (9, 7, 4)]


class Same(nn.Module):
    """Gives what it is given, and keeps the arithmetic that it saw; adds `wrong` to one pixel."""

    def __init__(self, channels=3, wrong=0.0):
        super().__init__()
        self.spec = ImageSpec(scale=1, in_channels=channels, out_channels=channels)
        self.wrong, self.seen = wrong, []

    def forward(self, x_BCHW):
        identity = torch.eye(2)
        self.seen.append((identity @ identity).dtype)
        y_BCHW = x_BCHW.clone()
        y_BCHW[:, :, -1, -1] += self.wrong
        return y_BCHW


def pixels_between(shape, low, high, seed=0):
    pixels = np.random.default_rng(seed).uniform(low, high, shape).astype(np.float32)
    pixels[0, 0], pixels[-1, -1] = low, high
    if len(shape) == 3 and shape[2] in (2, 4):
        pixels[..., -1] = np.random.default_rng(seed).uniform(0.5, 1, shape[:2])
    return pixels


@settings(max_examples=60, deadline=None)
@given(
    shape=st.sampled_from(SHAPES),
    channels=st.sampled_from([1, 3]),
    low=st.sampled_from([0.0, -1.0, -7.5, 12.0]),
    width=st.sampled_from([0.1, 1.0, 2.0, 255.0, 65535.0, 1e6]),
    seed=st.integers(0, 99),
)
def test_a_range_goes_in_and_comes_out(shape, channels, low, width, seed):
    pixels = pixels_between(shape, low, low + width, seed)
    restored = Restorer(Same(channels), device="cpu", input_range=(low, low + width))(pixels)
    assert (restored.shape, restored.dtype) == (pixels.shape, np.float32)
    np.testing.assert_allclose(restored, pixels, rtol=1e-5, atol=2e-6 * max(width, abs(low)))


@settings(max_examples=60, deadline=None)
@given(
    shape=st.sampled_from(SHAPES),
    ends=st.sampled_from([(0, 1.01), (-0.01, 1), (0, 255), (0, 65535), (-1, 1), (0, 12.5), (-3, -1), (2, 3)]),
    wrapped=st.booleans(),
)
def test_values_beyond_are_refused_with_a_way_out_that_works(shape, ends, wrapped):
    pixels = pixels_between(shape, *ends)
    image = Image(pixels) if wrapped else pixels
    with pytest.raises(ImageError, match=r"holds values from .* to .*--input-range=.* of restore run") as refused:
        Restorer(Same(), device="cpu")(image)
    low, high = map(float, str(refused.value).partition("--input-range=")[2].split()[0].split(","))
    assert low <= ends[0]
    assert high >= ends[1]
    restored = Restorer(Same(), device="cpu", input_range=(low, high))(pixels)
    np.testing.assert_allclose(restored, pixels, rtol=1e-5, atol=1e-6 * (high - low))
    unclipped = Restorer(Same(), device="cpu").measuring()(pixels)  # for figures: noise goes in, results are clipped
    np.testing.assert_allclose(unclipped, np.clip(pixels, 0, 1), atol=1e-6)


def test_what_a_given_range_clips_is_said(caplog):
    pixels = pixels_between((9, 7, 3), -0.5, 2)
    with caplog.at_level(logging.WARNING):
        restored = Restorer(Same(), device="cpu", input_range=(0, 1))(Image(pixels, path="a.tif"))
    np.testing.assert_allclose(restored.pixels, np.clip(pixels, 0, 1), atol=1e-6)
    wrong = np.count_nonzero((pixels < 0) | (pixels > 1))
    assert f"'a.tif': {wrong} of 189 values are beyond the input range of 0 to 1 and are clipped" in caplog.text
    assert "reach from -0.5 to 2" in caplog.text


def test_rounding_is_no_excess():
    Restorer(Same(), device="cpu")(np.full((4, 4, 3), 1 + 1e-6, np.float32))


def test_alpha_has_a_range_of_its_own():
    pixels = pixels_between((9, 7, 4), 0, 255)
    pixels[..., 3] = 200
    for restore_it in (
        Restorer(Same(), device="cpu", input_range=(0, 255)),
        Restorer(Same(), device="cpu"),
        lambda pixels: flatten(Image(pixels)),
    ):
        with pytest.raises(ImageError, match="the alpha channel of the image holds values from 200 to 200"):
            restore_it(pixels)


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("settings", [{}, {"input_range": (0, 2)}])
def test_one_pixel_that_is_not_finite(shape, wrong, settings, deep, caplog):
    pixels = pixels_between(shape, 0, 1)
    pixels[(4, 5, *(0,) * (len(shape) - 2))] = wrong
    message = r"holds 1 values that are not finite .*row 4, column 5\. --fill-nan"
    with pytest.raises(ImageError, match=message):
        Restorer(deep(scale=1, depth=3), device="cpu", **settings)(pixels)
    with pytest.raises(ImageError, match=message):
        Restorer(deep(scale=1, depth=3), device="cpu", **settings).measuring()(pixels)
    filled = Restorer(Same(), device="cpu", fill=True, **settings)(pixels)
    assert "1 pixels are not finite and are filled" in caplog.text
    elsewhere = np.ones(shape[:2], bool)
    elsewhere[4, 5] = False
    np.testing.assert_allclose(filled[elsewhere], pixels[elsewhere], atol=1e-5)
    neighbours = [pixels[place] for place in ((3, 5), (5, 5), (4, 4), (4, 6))]
    assert any(np.allclose(filled[4, 5], each, atol=1e-5) for each in neighbours)


def test_nothing_but_holes():
    with pytest.raises(ImageError, match="not finite"):
        Restorer(Same(), device="cpu", fill=True)(np.full((4, 4), math.nan, np.float32))
    with pytest.raises(ImageError, match="the tensor holds values that are not finite"):
        Restorer(Same(), device="cpu")(torch.full((1, 3, 4, 4), math.nan))


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
def test_a_result_that_is_not_finite_is_an_error(wrong):
    restorer = Restorer(Same(wrong=wrong), device="cpu")
    white = np.full((9, 7, 3), 255, np.uint8)
    for image in (white, Image(white), white.astype(np.uint16), white / np.float32(255), torch.rand(1, 3, 9, 7)):
        with pytest.raises(ImageError, match="result is not finite"):
            restorer(image)
    with pytest.raises(ImageError, match="result is not finite"):
        list(restorer.rows(white))
    with pytest.raises(ImageError, match="result is not finite"):
        restorer.batch([white, white])


@pytest.mark.parametrize("given", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("wanted", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("shape", SHAPES)
def test_depth_of_results(given, wanted, shape):
    pixels = convert_depth(pixels_between(shape, 0, 1), given).reshape(shape)
    restorer = Restorer(Same(), device="cpu", depth=wanted)
    restored = restorer(pixels)
    assert (restored.shape, restored.dtype) == restorer.result_of(shape, given) == (shape, wanted)
    np.testing.assert_allclose(convert_depth(restored, "float32"), convert_depth(pixels, "float32"), atol=0.6 / 255)


def test_floats_of_another_range_become_integers_with_white_at_the_top():
    pixels = pixels_between((9, 7, 3), 0, 12.5)
    restored = Restorer(Same(), device="cpu", depth="uint16", input_range=(0, 12.5))(pixels)
    np.testing.assert_array_equal(restored, np.rint(pixels / 12.5 * 65535))


@pytest.mark.parametrize(
    "settings", [{"input_range": (1, 1)}, {"input_range": (2, 1)}, {"input_range": (0, math.inf)}, {"depth": "uint32"}]
)
def test_senseless_settings(settings):
    with pytest.raises(OptionsError, match=next(iter(settings))):
        Restorer(Same(), device="cpu", **settings)


def test_auto_is_bf16_of_8_bits_alone(monkeypatch):
    monkeypatch.setattr("restore.inference.precision.has_fast_bf16", lambda device: True)
    exact, fast = torch.float32, torch.bfloat16
    network, pixels = Same(), np.zeros((6, 5, 3), np.uint8)

    def arithmetic(image, **settings):
        Restorer(network, device="cpu", **settings)(image)
        return network.seen[-1]

    assert arithmetic(pixels) is fast
    assert arithmetic(Image(pixels)) is fast
    assert arithmetic(pixels.astype(np.uint16)) is exact
    assert arithmetic(pixels.astype(np.float32)) is exact
    assert arithmetic(pixels, depth="uint16") is exact
    assert arithmetic(pixels.astype(np.uint16), depth="uint8") is exact
    assert arithmetic(torch.zeros(1, 3, 6, 5)) is exact
    assert arithmetic(torch.zeros(1, 3, 6, 5, dtype=torch.bfloat16)) is fast
    assert arithmetic(pixels.astype(np.uint16), precision="bf16") is fast
    Restorer(network, device="cpu").measuring()(pixels)
    assert network.seen[-1] is exact
    Restorer(network, device="cpu", precision="bf16").measuring()(pixels)
    assert network.seen[-1] is fast
    assert "bf16 (fp32 of more than 8 bits)" in Restorer(network, device="cpu").describe()
    assert "bf16" not in Restorer(network, device="cpu").measuring().describe()


def test_tiles_are_chosen_for_the_arithmetic(monkeypatch, deep):
    monkeypatch.setattr("restore.inference.precision.has_fast_bf16", lambda device: True)
    monkeypatch.setattr(fitting, "free_bytes", lambda device: 1 << 23)
    restorer = Restorer(deep(scale=1, depth=4), device="cpu")
    assert restorer.tile_for((600, 600, 3), 1, "uint16") < restorer.tile_for((600, 600, 3), 1, "uint8")


@pytest.mark.parametrize("depth", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("channels", [2, 4])
def test_flatten(depth, channels):
    white = {"uint8": 255, "uint16": 65535, "float32": 1}[depth]
    pixels = np.zeros((2, 2, channels), depth)
    pixels[0, 0] = white
    pixels[0, 1, -1] = white
    pixels[1, 0, -1] = white // 2 if depth != "float32" else 0.5
    flat = flatten(Image(pixels)).pixels
    assert (flat.dtype, flat.shape[2:]) == (depth, (3,) if channels == 4 else ())
    ends = [flat[0, 0], flat[0, 1], flat[1, 1]]
    assert [float(np.max(each)) for each in ends] == [white, 0, white]
    assert abs(float(np.max(flat[1, 0])) / white - 0.5) < 0.01
    assert flatten(Image(flat)).pixels is flat


@pytest.mark.parametrize("input_range", [None, (0, 255)])
@pytest.mark.parametrize("channels", [2, 4])
def test_floats_are_laid_on_their_own_white(tmp_path, channels, input_range):
    pixels = np.full((9, 7, channels), 40.0 if input_range else 3.0, np.float32)
    pixels[..., -1] = 0
    pixels[0, 0, -1] = 1
    write_image(tmp_path / "a.tif", pixels)
    restorer = Restorer(Same(), device="cpu", input_range=input_range)
    (outcome,) = restore_files(plan_jobs(tmp_path / "a.tif", tmp_path / "out"), restorer, flat=True)
    if input_range is None:  # nothing of what is beyond is clipped away before it is looked at
        assert "holds values from 1 to 3" in outcome.error
        return
    result = read_image(tmp_path / "out" / "a.tif").pixels
    assert result.shape == (9, 7, 3)[: 3 if channels == 4 else 2]
    np.testing.assert_allclose(result[0, 0], 40, atol=1e-3)
    np.testing.assert_allclose(result[1:], 255, atol=1e-3)


def test_require_unit():
    require_unit(np.zeros((2, 2), np.uint16), "a")
    require_unit(np.ones((2, 2), np.float32), "a")
    for wrong in (2, -1, math.nan):
        with pytest.raises(ImageError, match=r"'a\.tif' holds"):
            require_unit(np.full((2, 2), wrong, np.float32), "a.tif")


def test_readers_that_need_a_white(tmp_path):
    from restore.data.storage.databases import stored_image
    from restore.data.storage.sources import FileSource
    from restore.degradations.folder import Recipe, make_pairs, plan_jobs
    from restore.evaluation.scoring.measuring import read_pixels

    path = tmp_path / "in" / "a.tif"
    write_image(path, np.full((32, 32, 3), 255, np.float32))
    for read in (stored_image, read_pixels, lambda path: FileSource([path]).read(0)):
        with pytest.raises(ImageError, match=r"a\.tif' holds values from 255 to 255"):
            read(path)
    recipe = Recipe("gaussian_noise")
    (outcome,) = make_pairs(plan_jobs(path.parent, tmp_path / "out", recipe), recipe)
    assert "holds values from 255 to 255" in outcome.error
