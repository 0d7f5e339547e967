"""Depths, tensors and colour."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from restore.errors import ImageError
from restore.images import (
    convert_depth,
    grey_to_rgb,
    rgb_to_grey,
    rgb_to_y,
    rgb_to_ycbcr,
    to_pixels,
    to_tensor,
    y_to_rgb,
    ycbcr_to_rgb,
)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_every_value_survives_the_tensor(dtype, channels):
    values = np.arange(np.iinfo(dtype).max + 1, dtype=dtype)
    pixels = np.stack([values.reshape(16, -1)] * channels, -1)
    pixels = pixels[:, :, 0] if channels == 1 else pixels
    x_BCHW = to_tensor(pixels)
    assert x_BCHW.shape == (1, channels, 16, values.size // 16)
    assert (x_BCHW.min(), x_BCHW.max()) == (0, 1)
    assert x_BCHW.is_contiguous()
    back = to_pixels(x_BCHW, dtype)
    assert back.dtype == dtype
    np.testing.assert_array_equal(back, pixels)


def test_tensors_never_share_memory_with_pixels():
    pixels = np.zeros((2, 3), np.float32)
    to_tensor(pixels).add_(1)
    assert not pixels.any()
    x_BCHW = torch.zeros(1, 1, 2, 3)
    to_pixels(x_BCHW, np.float32)[:] = 1
    assert not x_BCHW.any()


def test_readonly_and_strided_pixels():
    pixels = np.arange(24, dtype=np.uint8).reshape(4, 6)[::-1, ::2]
    pixels.flags.writeable = False
    np.testing.assert_array_equal(to_pixels(to_tensor(pixels)), pixels)


def test_pixels_are_clamped_and_rounded_half_to_even():
    x_BCHW = torch.tensor([-1.0, 2.0, 0.5 / 255, 1.5 / 255, 2.5 / 255]).reshape(1, 1, 1, 5)
    assert to_pixels(x_BCHW).tolist() == [[0, 255, 0, 2, 2]]
    with pytest.raises(ImageError, match=r"\(2, 1, 4, 4\) is not one image"):
        to_pixels(torch.zeros(2, 1, 4, 4))
    with pytest.raises(ImageError, match="int32 is not an image depth"):
        to_pixels(x_BCHW, np.int32)


def test_depths_convert_and_come_back():
    values = np.arange(256, dtype=np.uint8).reshape(16, 16)
    deep = convert_depth(values, np.uint16)
    np.testing.assert_array_equal(deep, values.astype(np.uint16) * 257)
    for other in (deep, convert_depth(values, np.float32)):
        np.testing.assert_array_equal(convert_depth(other, np.uint8), values)
    assert convert_depth(np.full((1, 1), 1.5, np.float32), np.uint8).item() == 255


def test_luma_of_the_primaries():
    white, black = torch.ones(1, 3, 1, 1), torch.zeros(1, 3, 1, 1)
    assert rgb_to_y(white).item() == pytest.approx(235 / 255, abs=1e-6)
    assert rgb_to_y(black).item() == pytest.approx(16 / 255, abs=1e-6)
    blue = torch.tensor([0.0, 0.0, 1.0]).reshape(1, 3, 1, 1)
    expected = torch.tensor([16 + 24.966, 240.0, 128 - 18.214]) / 255
    torch.testing.assert_close(rgb_to_ycbcr(blue).flatten(), expected)
    torch.testing.assert_close(rgb_to_grey(blue).flatten(), torch.tensor([0.114]))


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 999))
def test_colour_conversions_invert(seed):
    x_BCHW = torch.rand(2, 3, 5, 7, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(ycbcr_to_rgb(rgb_to_ycbcr(x_BCHW)), x_BCHW, rtol=0, atol=1e-5)
    torch.testing.assert_close(rgb_to_ycbcr(x_BCHW)[:, :1], rgb_to_y(x_BCHW))
    y_B1HW = rgb_to_y(x_BCHW)
    torch.testing.assert_close(rgb_to_y(y_to_rgb(y_B1HW)), y_B1HW, rtol=0, atol=1e-5)
    torch.testing.assert_close(rgb_to_grey(grey_to_rgb(x_BCHW[:, :1])), x_BCHW[:, :1], rtol=0, atol=1e-5)


def test_wrong_channels_are_named():
    with pytest.raises(ImageError, match=r"\(B, 3, H, W\) is needed; given: \(1, 1, 4, 4\)"):
        rgb_to_y(torch.zeros(1, 1, 4, 4))
    with pytest.raises(ImageError, match=r"\(B, 1, H, W\)"):
        y_to_rgb(torch.zeros(1, 3, 4, 4))
