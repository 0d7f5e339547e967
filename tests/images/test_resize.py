"""Resizing: MATLAB's numbers, published low-resolution images, and closed-form properties."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from restore.errors import ImageError
from restore.images import KERNELS, read_image, resize, resize_pixels

FIXTURES = ("0.5000", "0.3333", "0.2500", "0.3700", "2.0000", "3.0000", "noaa_0.5000")


@pytest.mark.parametrize("name", FIXTURES)
def test_agrees_with_matlab(shared, name):
    arrays = np.load(shared("fixtures/imresize.npz"))
    expected = torch.from_numpy(arrays[f"imresize_{name}"]).permute(2, 0, 1)
    x_BCHW = torch.from_numpy(arrays["input"]).permute(2, 0, 1)[None]
    scale = 1 / 3 if name == "0.3333" else float(name.split("_")[-1])
    for num_copies in (1, 4):  # few planes and many take different ways
        resized = resize(x_BCHW.repeat(num_copies, 1, 1, 1), scale=scale, antialias="noaa" not in name)
        assert resized.shape == (num_copies, *expected.shape)
        assert (resized - expected).abs().max() < 1e-5


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
def test_reproduces_published_low_resolution_images(shared, scale):
    folder = shared(f"data/benchmark/Set5/LR_bicubic/X{scale}")
    for path in sorted(shared("data/benchmark/Set5/HR").glob("*.png")):
        high = read_image(path).pixels
        height, width = (side // scale * scale for side in high.shape[:2])
        (low_path,) = (other for other in folder.iterdir() if re.match(rf"{path.stem}(x\d)?\.", other.name))
        # those of x8 were rounded once, the others after each axis
        low = resize_pixels(high[:height, :width], scale=1 / scale, round_each_axis=scale != 8)
        np.testing.assert_array_equal(low, read_image(low_path).pixels)


@pytest.mark.parametrize("kernel", sorted(KERNELS))
@settings(max_examples=15, deadline=None)
@given(size=st.tuples(*[st.integers(1, 20)] * 2), target=st.tuples(*[st.integers(1, 30)] * 2), antialias=st.booleans())
def test_constant_stays_constant(kernel, size, target, antialias):
    resized = resize(torch.full((1, 2, *size), 0.7), size=target, kernel=kernel, antialias=antialias)
    assert resized.shape == (1, 2, *target)
    torch.testing.assert_close(resized, torch.full_like(resized, 0.7), rtol=0, atol=1e-6)


@settings(max_examples=15, deadline=None)
@given(scale=st.sampled_from([0.25, 0.5, 1 / 3, 2.0, 3.0, 1.0]), seed=st.integers(0, 99))
def test_commutes_with_transposition_and_mirroring(scale, seed):
    x_BCHW = torch.rand(1, 1, 12, 24, generator=torch.Generator().manual_seed(seed))
    resized = resize(x_BCHW, scale=scale)
    torch.testing.assert_close(resize(x_BCHW.mT, scale=scale), resized.mT, rtol=0, atol=1e-5)
    torch.testing.assert_close(resize(x_BCHW.flip(-1), scale=scale), resized.flip(-1), rtol=0, atol=1e-5)


def test_linear_ramp_is_exact_away_from_the_border():
    ramp = torch.arange(40, dtype=torch.float64).expand(1, 1, 40, 40)
    shrunk = resize(ramp, scale=0.5)
    expected = torch.arange(20, dtype=torch.float64) * 2 + 0.5
    torch.testing.assert_close(shrunk[0, 0, 5:-5, 5:-5], expected[5:-5].expand(10, 10))


@pytest.mark.parametrize("size", [(3, 8), (6, 2)])
@pytest.mark.parametrize("num_images", [1, 5])
def test_differentiable(size, num_images):
    x_BCHW = torch.rand(num_images, 2, 4, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: resize(x, size=size), x_BCHW)
    assert torch.autograd.gradgradcheck(lambda x: resize(x, size=size) ** 2, x_BCHW[:1, :1])


@pytest.mark.parametrize(("length", "scale", "expected"), [(9, 1 / 3, 3), (64, 1 / 3, 22), (10, 0.37, 4), (7, 1.5, 11)])
def test_size_is_rounded_up(length, scale, expected):
    assert resize(torch.zeros(1, 1, length, length), scale=scale).shape[-1] == expected


def test_dtype_is_kept_and_autocast_does_not_cost_precision():
    x_BCHW = torch.rand(1, 3, 16, 16)
    resized = resize(x_BCHW, scale=0.5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(resize(x_BCHW, scale=0.5), resized)
    assert resize(x_BCHW.bfloat16(), scale=0.5).dtype == torch.bfloat16


def test_pixels_of_every_depth():
    rng = np.random.default_rng(0)
    for dtype, white in ((np.uint8, 255), (np.uint16, 65535), (np.float32, 1)):
        pixels = (rng.random((8, 12, 2)) > 0.5).astype(dtype) * dtype(white)
        resized = resize_pixels(pixels, scale=2)  # overshoots are clamped, not wrapped around
        assert resized.dtype == dtype
        assert resized.shape == (16, 24, 2)
        assert resized.min() == 0
        assert resized.max() == white


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("num_images", [1, 5])
def test_same_on_the_gpu(num_images):
    x_BCHW = torch.rand(num_images, 3, 31, 45)
    for scale in (0.37, 2):
        on_gpu = resize(x_BCHW.cuda().requires_grad_(), scale=scale)
        on_gpu.sum().backward()
        torch.testing.assert_close(on_gpu.cpu(), resize(x_BCHW, scale=scale), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "needs a scale or a size"),
        ({"scale": -1}, "positive"),
        ({"scale": float("nan"), "size": (2, 2)}, "positive"),
        ({"size": (0, 4)}, "positive"),
        ({"scale": 2, "kernel": "cubik"}, "Did you mean 'cubic'"),
    ],
)
def test_mistakes(arguments, message):
    with pytest.raises(ImageError, match=message):
        resize(torch.zeros(1, 1, 4, 4), **arguments)
