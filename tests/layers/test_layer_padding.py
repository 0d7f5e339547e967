from __future__ import annotations

import numpy as np
import pytest
import torch

from restore.layers.padding import cut_tiles, pad_to_multiple, paste_tiles


@pytest.mark.parametrize("size", [(1, 1), (2, 9), (3, 4), (8, 8), (5, 1)])
def test_reflection_agrees_with_numpy_however_small_the_image(size):
    x = torch.rand(1, 2, *size)
    padded = pad_to_multiple(x, 8)
    bottom, right = -size[0] % 8, -size[1] % 8
    expected = np.pad(x.numpy(), ((0, 0), (0, 0), (0, bottom), (0, right)), mode="reflect")
    assert np.array_equal(padded.numpy(), expected)


def test_what_fits_is_not_touched():
    x = torch.rand(1, 1, 8, 16)
    assert pad_to_multiple(x, 8) is x


def test_each_side_has_its_own_multiple():
    x = torch.rand(1, 1, 5, 9)
    assert torch.equal(pad_to_multiple(x, (4, 6)), pad_to_multiple(x, (8, 12)))
    assert pad_to_multiple(x, (4, 6)).shape == (1, 1, 8, 12)
    assert pad_to_multiple(x, (5, 3)) is x


def test_tiles_need_not_be_square():
    x = torch.arange(2 * 3 * 8 * 12.0).view(2, 3, 8, 12)
    tiles = cut_tiles(x, (4, 6))
    assert torch.equal(tiles[3], x[0, :, 4:, 6:])
    assert torch.equal(paste_tiles(tiles, 2, 2), x)


def test_tiles_are_the_squares_of_the_map_and_give_it_back():
    x = torch.arange(2 * 3 * 8 * 12.0).view(2, 3, 8, 12)
    tiles = cut_tiles(x, 4)
    assert torch.equal(tiles[4], x[0, :, 4:8, 4:8])
    assert torch.equal(paste_tiles(tiles, 2, 3), x)
