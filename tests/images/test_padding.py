"""Padding policies: sizes, contents and exact inversion."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from restore.errors import ImageError
from restore.images import PADDINGS, crop, frame, pad

SIDES = st.integers(1, 40)


@pytest.mark.parametrize("policy", sorted(PADDINGS))
@settings(max_examples=25, deadline=None)
@given(height=SIDES, width=SIDES, multiple=st.integers(1, 16), minimum=st.integers(1, 50), scale=st.integers(1, 3))
def test_crop_inverts_pad(policy, height, width, multiple, minimum, scale):
    x_BCHW = torch.rand(1, 2, height, width)
    padded, framed = pad(x_BCHW, policy, multiple, minimum)
    assert tuple(padded.shape[-2:]) == framed.size
    if policy != "none":
        assert all(side % multiple == 0 and side >= minimum for side in framed.size)
    enlarged = padded.repeat_interleave(scale, -2).repeat_interleave(scale, -1)
    expected = x_BCHW.repeat_interleave(scale, -2).repeat_interleave(scale, -1)
    assert torch.equal(crop(enlarged, framed, scale), expected)


@given(height=st.integers(8, 40), width=st.integers(8, 40))
@settings(max_examples=20, deadline=None)
def test_reflect_is_that_of_torch(height, width):
    x_BCHW = torch.rand(1, 1, height, width)
    expected = torch.nn.functional.pad(x_BCHW, (0, -width % 8, 0, -height % 8), mode="reflect")
    assert torch.equal(pad(x_BCHW, "reflect", 8)[0], expected)


@given(height=st.integers(8, 40), width=st.integers(8, 40))
@settings(max_examples=20, deadline=None)
def test_flip_always_extends(height, width):
    x_BCHW = torch.rand(1, 1, height, width)
    down, right = (length // 8 * 8 + 8 for length in (height, width))
    expected = torch.cat([x_BCHW, x_BCHW.flip(2)], 2)[:, :, :down]
    expected = torch.cat([expected, expected.flip(3)], 3)[..., :right]
    assert torch.equal(pad(x_BCHW, "flip", 8)[0], expected)


def test_square_is_centred_on_zeros():
    padded, framed = pad(torch.ones(1, 3, 100, 131), "square128")
    assert padded.shape == (1, 3, 256, 256)
    assert framed.offset == (78, 62)
    assert padded.sum() == 3 * 100 * 131
    assert padded[..., 78:178, 62:193].min() == 1
    assert frame(5, 9, "square", multiple=4).size == (12, 12)
    assert frame(128, 128, "square128").size == (128, 128)


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("reflect", [0, 1, 2, 1, 0, 1, 2, 1]),
        ("flip", [0, 1, 2, 2, 1, 0, 0, 1]),
        ("replicate", [0, 1, 2, 2, 2, 2, 2, 2]),
        ("zeros", [0, 1, 2, -1, -1, -1, -1, -1]),
        ("none", [0, 1, 2]),
    ],
)
def test_images_smaller_than_the_padding(policy, expected):
    assert frame(3, 3, policy, multiple=8).index[0].tolist() == expected


@pytest.mark.parametrize("policy", ["reflect", "flip", "replicate"])
def test_one_pixel_is_repeated(policy):
    assert torch.equal(pad(torch.full((1, 1, 1, 1), 0.3), policy, 8)[0].unique(), torch.tensor([0.3]))


def test_padding_passes_gradients():
    x_BCHW = torch.ones(1, 1, 3, 3, requires_grad=True)
    pad(x_BCHW, "flip", 3)[0].sum().backward()
    assert torch.equal(x_BCHW.grad, torch.full((1, 1, 3, 3), 4.0))


def test_mistakes():
    with pytest.raises(ImageError, match="Did you mean 'reflect'"):
        frame(4, 4, "reflekt")
    with pytest.raises(ImageError, match="below 1"):
        frame(4, 0, "reflect")
    padded, framed = pad(torch.zeros(1, 1, 5, 5), "reflect", 8)
    with pytest.raises(ImageError, match=r"\(16, 16\), not \(8, 8\)"):
        crop(padded, framed, 2)
