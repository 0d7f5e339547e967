"""Resizing rows as they come gives what resizing all of them gives."""

from __future__ import annotations

import pytest
import torch

from restore.images import compiled, resize
from restore.images.resized_rows import RowResizer

SIZE = (53, 31)
TARGETS = [(53, 31), (106, 62), (159, 31), (53, 93), (80, 47), (40, 62), (75, 20), (13, 8), (20, 31), (5, 200), (1, 1)]


@pytest.mark.parametrize("steps", [[53], [1] * 53, [20, 3, 30], [52, 1]], ids=lambda steps: f"{len(steps)} bands")
@pytest.mark.parametrize("target", TARGETS, ids=str)
@pytest.mark.parametrize("with_library", [True, False])
def test_bands_are_those_of_the_whole(monkeypatch, with_library, target, steps):
    if not with_library:
        monkeypatch.setattr(compiled, "_library", None)
    x_BCHW = torch.rand(2, 3, *SIZE, generator=torch.Generator().manual_seed(0))
    resizer = RowResizer(SIZE, target)
    bands = [resizer.add(band) for band in x_BCHW.split(steps, dim=-2)]
    is_exact = with_library and compiled._library and all(new >= old for new, old in zip(target, SIZE, strict=True))
    tolerance = 0 if is_exact else 5e-7  # products with sparse matrices are summed in an order that depends on the size
    torch.testing.assert_close(torch.cat(bands, dim=-2), resize(x_BCHW, size=target), atol=tolerance, rtol=0)


def test_what_is_held_is_what_the_kernel_reaches():
    resizer = RowResizer((4000, 8), (2000, 4))
    for band in torch.rand(1, 1, 4000, 8).split(16, dim=-2):
        resizer.add(band)
        assert resizer._held.shape[-2] <= 8
