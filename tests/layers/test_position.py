from __future__ import annotations

import pytest
import torch

from restore.layers.build import build_position
from restore.registry import POSITIONS

DIM = 12


@pytest.mark.parametrize("name", POSITIONS.names())
@pytest.mark.parametrize("size", [(1, 1), (3, 7), (16, 16)])
def test_maps_of_any_size_keep_their_shape(name, size):
    x = torch.zeros(2, *size, DIM)
    assert build_position(name, DIM)(x).shape == x.shape


def test_sinusoids_tell_every_place_apart():
    places = build_position("sinusoid", DIM)(torch.zeros(1, 9, 11, DIM)).flatten(1, 2)[0]
    distance = torch.cdist(places, places) + torch.eye(len(places)) * 9
    assert distance.min() > 0.01


def test_learned_places_are_added_and_resized():
    position = build_position({"type": "learned", "grid_px": 5}, DIM)
    x = torch.randn(2, 5, 5, DIM)
    assert torch.equal(position(x), x + position.table)
    with torch.no_grad():
        position.table.copy_(torch.arange(5.0)[None, :, None, None].expand(1, 5, 5, DIM))
        rows = position(torch.zeros(1, 9, 3, DIM))[0, :, 1, 0]
    assert (rows.diff() > 0).all()
    assert rows[4] == pytest.approx(2)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"type": "conv", "kernel_size": 2}, "kernel_size is 2: must be odd"),
        ({"type": "learned", "grid_px": 0}, "grid_px"),
    ],
)
def test_impossible_options_say_why(option, message):
    with pytest.raises(ValueError, match=message):
        build_position(option, DIM)


@pytest.mark.parametrize("name", POSITIONS.names())
def test_folded_it_is_the_same(name, assert_folds):
    assert_folds(build_position(name, DIM), torch.randn(2, 5, 7, DIM))
