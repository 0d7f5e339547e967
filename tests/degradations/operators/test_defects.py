"""Defects: what they do to pixels, that boxes hold it, and that labels are of what can be seen."""

import math

import numpy as np
import pytest
import torch

from restore.degradations import load_pipeline, pasted
from restore.degradations.operators.base import tensor_code
from restore.degradations.operators.defects import Defect, Dust, HotPixels, JpegBlocks, Scratches, StampedText
from restore.errors import OptionsError
from restore.registry import DEGRADATIONS

GREY = torch.full((1, 3, 90, 130), 0.5)
DEFECTS = [name for name in DEGRADATIONS if issubclass(DEGRADATIONS.get(name), Defect)]


def draw(name, **values):
    return DEGRADATIONS.build({"type": name, **values})


def texture(height=90, width=130):
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(1))


def test_names():
    assert DEFECTS == ["dust", "hot_pixels", "jpeg_blocks", "scratches", "stamped_text"]
    assert len({DEGRADATIONS.get(name).kind for name in DEFECTS}) == 5


@pytest.mark.parametrize("name", DEFECTS)
@pytest.mark.parametrize("seed", range(4))
def test_nothing_changes_outside_of_the_boxes(name, seed):
    x_BCHW, operator = texture(), draw(name, seed=seed)
    changed = ((operator(x_BCHW) - x_BCHW).abs().amax(dim=1)[0] > 0.12).numpy()
    boxes = operator.boxes(90, 130)
    assert boxes
    mask = np.zeros_like(changed)
    for left, top, right, bottom in boxes:
        assert 0 <= left < right <= 130
        assert 0 <= top < bottom <= 90
        assert changed[top:bottom, left:right].any()
        mask[top:bottom, left:right] = True
    assert not changed[~mask].any()


@pytest.mark.parametrize("name", DEFECTS)
@pytest.mark.parametrize("size", [(1, 1), (2, 9), (8, 300), (33, 7)])
def test_any_size(name, size):
    x_BCHW = torch.rand(2, 1, *size)
    operator = draw(name, seed=5)
    assert operator(x_BCHW).shape == x_BCHW.shape
    for left, top, right, bottom in operator.boxes(*size):
        assert 0 <= left < right <= size[1]
        assert 0 <= top < bottom <= size[0]


@pytest.mark.parametrize("name", DEFECTS)
def test_the_seed_is_all_that_is_random(name):
    one, same, other = (draw(name, seed=seed) for seed in (1, 1, 2))
    x_BCHW = texture()
    assert torch.equal(one(x_BCHW), same(x_BCHW))
    assert not torch.equal(one(x_BCHW), other(x_BCHW))
    assert one.boxes(90, 130) == same.boxes(90, 130)
    assert one.boxes(90, 130) != other.boxes(90, 130)


@pytest.mark.parametrize("name", sorted(set(DEFECTS) - {"jpeg_blocks"}))
def test_strength_is_how_much_is_hidden(name):
    x_BCHW = texture()
    half, whole = (draw(name, seed=3, strength=strength)(x_BCHW) for strength in (0.5, 1.0))
    torch.testing.assert_close(half, (x_BCHW + whole) / 2, atol=2e-5, rtol=0)
    assert torch.equal(draw(name, seed=3, strength=0.0)(x_BCHW), x_BCHW)
    assert draw(name, seed=3, strength=0.0).boxes(90, 130) == []


@pytest.mark.parametrize(
    ("block", "where"),
    [
        ({"type": "scratches", "num_scratches": -1}, "num_scratches"),
        ({"type": "scratches", "length_px": 1}, "length_px"),
        ({"type": "dust", "hairs": 1.5}, "hairs"),
        ({"type": "hot_pixels", "strength": 2}, "strength"),
        ({"type": "stamped_text", "text": "größe"}, "text"),
        ({"type": "stamped_text", "colour": "mauve"}, "colour"),
        ({"type": "jpeg_blocks", "quality": 0}, "quality"),
        ({"type": "jpeg_blocks", "size_px": 4}, "size_px"),
    ],
)
def test_ranges(block, where):
    with pytest.raises(OptionsError, match=where):
        DEGRADATIONS.build(block)


class TestScratches:
    def test_a_straight_line_has_its_length_and_width(self):
        long = Scratches(length_px=60, width_px=2, angle=0.0, bend=0.0, strength=1.0, seed=0)
        boxes = {seed: Scratches(**{**vars(long), "seed": seed}).boxes(400, 400)[0] for seed in range(30)}
        inside = [(x1 - x0, y1 - y0) for x0, y0, x1, y1 in boxes.values() if y1 < 400]
        assert len(inside) > 15
        assert all(2 <= width <= 4 for width, _ in inside)
        assert all(30 - 4 <= height <= 60 + 4 for _, height in inside)

    def test_thin_ones_are_fainter(self):
        thin, wide = (
            (Scratches(width_px=width, angle=math.pi / 2, bend=0, strength=1, seed=2)(GREY) - GREY).amax()
            for width in (0.25, 2.0)
        )
        assert 0 < thin < 0.6 * wide

    @pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
    def test_brightness(self, value):
        drawn = Scratches(value=value, width_px=3, strength=1.0, seed=1)(texture())
        assert ((drawn - value).abs().amax(dim=1) < 1e-6).any()


class TestDust:
    def test_specks_are_no_larger_than_said(self):
        boxes = Dust(num_specks=200, size_px=10, hairs=0, softness_px=0, seed=3).boxes(500, 500)
        assert len(boxes) == 200
        assert max(max(x1 - x0, y1 - y0) for x0, y0, x1, y1 in boxes) <= 12
        hairs = Dust(num_specks=200, size_px=10, hairs=1, softness_px=0, seed=3).boxes(500, 500)
        assert np.mean([max(x1 - x0, y1 - y0) for x0, y0, x1, y1 in hairs]) > 10

    def test_softness_widens_and_fades(self):
        sharp, soft = (Dust(num_specks=1, hairs=0, softness_px=s, strength=1, seed=1) for s in (0, 3))
        assert (soft(GREY) - GREY).abs().amax() < (sharp(GREY) - GREY).abs().amax()
        (a, b), (c, d) = ((x.boxes(90, 130)[0][0::2]) for x in (sharp, soft))
        assert d - c > b - a


class TestHotPixels:
    def test_one_pixel_or_its_neighbours(self):
        single = HotPixels(num_pixels=1, demosaiced=False, seed=4)
        assert (single(GREY) != GREY).any(dim=1).sum() == 1
        assert (HotPixels(num_pixels=1, seed=4)(GREY) != GREY).any(dim=1).sum() == 9

    def test_none(self):
        assert torch.equal(HotPixels(num_pixels=0)(GREY), GREY)
        assert HotPixels(num_pixels=0).boxes(9, 9) == []


class TestText:
    def test_what_is_written_and_how_high(self):
        for height in (10.0, 30.0):
            left, top, right, bottom = StampedText(text="HHH", height_px=height, seed=1).boxes(300, 300)[0]
            assert height * 0.8 <= bottom - top <= height * 1.35
            longer = StampedText(text="HHHHHH", height_px=height, seed=1).boxes(300, 300)[0]
            assert longer[2] - longer[0] > 1.7 * (right - left)

    def test_a_date_is_drawn_where_there_is_no_text(self):
        widths = {(box := StampedText(seed=seed).boxes(200, 400)[0])[2] - box[0] for seed in range(12)}
        assert len(widths) > 4

    def test_colour_of_grey_images(self):
        white = StampedText(text="8", colour="white", strength=1.0, height_px=40, weight=0.3)(torch.zeros(1, 1, 80, 80))
        orange = StampedText(text="8", strength=1.0, height_px=40, weight=0.3)(torch.zeros(1, 1, 80, 80))
        assert white.max() == 1
        assert orange.max() == pytest.approx(0.299 + 0.587 * 0.55 + 0.114 * 0.1, abs=1e-5)


class TestBlocks:
    def test_a_rectangle_is_what_jpeg_makes_of_it(self):
        operator = JpegBlocks(quality=5, size_px=40, seed=2)
        x_BCHW = texture()
        (left, top, right, bottom), *others = operator.boxes(90, 130)
        assert not others
        part = x_BCHW[..., top:bottom, left:right]
        expected = draw("jpeg", quality=5)(part.contiguous())
        assert torch.equal(operator(x_BCHW)[..., top:bottom, left:right], expected)

    def test_gradient(self):
        x_BCHW = texture().requires_grad_()
        with tensor_code():
            JpegBlocks(seed=1)(x_BCHW).sum().backward()
        assert x_BCHW.grad.isfinite().all()


class TestLabels:
    def test_what_cannot_be_seen_has_none(self):
        white = torch.ones(3, 80, 80)
        scratch = Scratches(value=1.0, seed=1)
        assert pasted(white, [scratch])[1] == []
        (label,) = pasted(white * 0.2, [scratch])[1]
        assert label == ("scratch", scratch.boxes(80, 80)[0])

    def test_flat_areas_show_no_blocks(self):
        assert pasted(torch.full((3, 80, 80), 0.5), [JpegBlocks(seed=1)])[1] == []
        assert [label.kind for label in pasted(texture()[0], [JpegBlocks(seed=1)])[1]] == ["blocks"]

    @pytest.mark.parametrize("seed", range(5))
    def test_of_a_recipe(self, seed):
        pipeline, x_BCHW = load_pipeline("defects", times=2), texture()
        image, labels = pasted(x_BCHW[0], pipeline.operators(seed, (90, 130)))
        pairs = pipeline(x_BCHW, [seed])
        torch.testing.assert_close(image, pairs["lq"][0], atol=1e-6, rtol=0)
        wanted = [
            operator.kind
            for operator in pipeline.operators(seed, (90, 130))
            if isinstance(operator, Defect)
            for _ in operator.boxes(90, 130)
        ]
        assert len(labels) <= len(wanted)
        assert {kind for kind, _ in labels} <= set(wanted)
