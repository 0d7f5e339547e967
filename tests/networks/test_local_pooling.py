"""Means over windows: against the mean of every window, and which windows a network gets."""

from __future__ import annotations

from collections import OrderedDict

import pytest
import torch
from torch import nn

from restore.networks.local_pooling import LocalPool, pool_locally


@pytest.mark.parametrize(
    ("window", "height", "width"), [((3, 4), 7, 9), ((3, 20), 7, 9), ((1, 1), 2, 3), ((6, 2), 8, 2)]
)
def test_every_position_has_the_mean_of_a_window(window, height, width):
    x_BCHW = torch.rand(2, 3, height, width)
    rows, columns = min(window[0], height), min(window[1], width)
    found = LocalPool(window)(x_BCHW)
    assert found.shape == x_BCHW.shape
    for row in range(height):
        for column in range(width):
            top = min(max(row - (rows - 1) // 2, 0), height - rows)
            left = min(max(column - (columns - 1) // 2, 0), width - columns)
            wanted = x_BCHW[:, :, top : top + rows, left : left + columns].mean(dim=(2, 3))
            torch.testing.assert_close(found[:, :, row, column], wanted)


def test_a_window_that_holds_all_is_a_mean_of_all():
    x_BCHW = torch.rand(2, 3, 5, 4)
    torch.testing.assert_close(LocalPool((5, 4))(x_BCHW), x_BCHW.mean(dim=(2, 3), keepdim=True))
    with pytest.raises(ValueError, match="window"):
        LocalPool((0, 4))


def test_windows_are_halved_with_the_maps():
    def block():
        return nn.Sequential(OrderedDict(sca=nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(2, 2, 1))))

    network = nn.Module()
    network.encoders = nn.ModuleList([block(), block()])
    network.middle_blks = block()
    network.decoders = nn.ModuleList([block(), block()])
    pool_locally(network, (1, 3, 8, 16))
    blocks = [*network.encoders, network.middle_blks, *network.decoders]
    found = [(each.sca[0].rows, each.sca[0].columns) for each in blocks]
    assert found == [(12, 24), (6, 12), (3, 6), (6, 12), (12, 24)]
