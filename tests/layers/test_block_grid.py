"""Steps on a grid stand out where an image was saved in blocks, wherever the grid begins, and nowhere else."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from restore.encoders import build_encoder
from restore.layers.block_grid import grid_steps


def smooth(side: int = 96, seed: int = 0) -> torch.Tensor:
    """(1, 3, side, side) in [-1, 1]: a surface of few waves with a little noise."""
    random = np.random.default_rng(seed)
    coarse = random.random((6, 6, 3)).astype(np.float32)
    image = cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC) + random.normal(0, 0.01, (side, side, 3))
    return torch.from_numpy(image.clip(0, 1)).permute(2, 0, 1)[None].float() * 2 - 1


def compressed(x_BCHW: torch.Tensor, quality: int = 6) -> torch.Tensor:
    pixels = ((x_BCHW[0].permute(1, 2, 0).numpy() + 1) * 127.5).round().astype(np.uint8)
    ok, data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert ok
    return torch.from_numpy(cv2.imdecode(data, cv2.IMREAD_COLOR)).permute(2, 0, 1)[None].float() / 127.5 - 1


@pytest.mark.parametrize("shift", [(0, 0), (3, 5), (7, 1)])
def test_blocks_stand_out_at_any_phase(shift):
    down, across = shift
    inside = grid_steps(compressed(smooth())[..., down:, across:])
    before = grid_steps(smooth()[..., down:, across:])
    assert inside.mean() > 0.15
    assert before.mean() < 0.05
    assert (inside.mean(dim=(0, 2, 3)) > 3 * before.mean(dim=(0, 2, 3))).all()  # in both directions


def test_an_area_of_blocks_is_where_it_is():
    image, left, top = smooth(160), 43, 70
    image[..., top : top + 64, left : left + 64] = compressed(image[..., top : top + 64, left : left + 64])
    both = grid_steps(image).amin(dim=1)[0]
    assert both[top + 16 : top + 48, left + 16 : left + 48].mean() > 0.1
    assert both[:32].mean() < 0.03
    assert both[:, -32:].mean() < 0.03


def test_by_hand():
    """Columns of 4 px, alternately 0 and 0.5: every step stands at phase 0 of a grid of 4; none in rows."""
    columns = (torch.arange(24) // 4 % 2 * 0.5).expand(1, 1, 24, 24)
    across, down = grid_steps(columns, 4)[0]
    count = 0.5 / (0.5 + 0.02)
    expected = torch.full((24, 24), count - count / 4)
    expected[:, :8] = count / 2 * 0.75  # beside the left edge, where the first block has no step, the mean is of two
    expected[:, 4:8] = count * 2 / 3 * 0.75
    torch.testing.assert_close(across, expected)
    assert not down.any()


def test_one_edge_is_no_grid_and_flat_is_nothing():
    edge = torch.zeros(1, 3, 64, 64)
    edge[..., 33:] = 1
    assert grid_steps(edge).max() < 0.3 * 1.01  # a third of one count, less its mean
    assert not grid_steps(torch.full((2, 3, 20, 13), 0.3)).any()


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (37, 51), (64, 8)])
def test_any_size_and_gradients(size):
    x = torch.rand(2, 3, *size, requires_grad=True)
    maps = build_encoder({"type": "conv_pyramid", "grids_px": [8, 4]}, in_chans=3)(x)
    sum(each.sum() for each in maps).backward()
    assert grid_steps(x).shape == (2, 2, *size)
    assert torch.isfinite(x.grad).all()


def test_a_side_of_one_is_refused():
    with pytest.raises(ValueError, match="side is 1: blocks have at least 2 pixels"):
        grid_steps(torch.zeros(1, 3, 8, 8), 1)
    with pytest.raises(ValueError, match=r"grids_px is \[8, 1\]: blocks have at least 2 pixels"):
        build_encoder({"type": "conv_pyramid", "grids_px": [8, 1]}, in_chans=3)
