"""While a network is exported it computes the same in another way."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from restore.layers import exportable
from restore.layers.mixers.graph import neighbours


@pytest.fixture
def exporting(monkeypatch):
    monkeypatch.setattr(exportable, "is_exporting", lambda: True)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("old", "new"), [((12, 16), (2, 3)), ((7, 5), (7, 5)), ((5, 6), (13, 6)), ((1, 9), (4, 4))])
def test_resizing_with_a_filter(mode, old, new):
    x = torch.randn(2, 3, *old)
    wanted = F.interpolate(x, new, mode=mode, align_corners=False, antialias=True)
    torch.testing.assert_close(exportable.resized_with_filter(x, new, mode), wanted, atol=2e-6, rtol=1e-5)
    torch.testing.assert_close(exportable.resized_with_filter(x.mT, new[::-1], mode), wanted.mT, atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("size", [(1, 4), (4, 1)])
def test_a_map_of_one_row_or_column_has_its_own_values(size):
    """Of PyTorch's own function, a map of one column has one value."""
    x = torch.arange(12.0).expand(1, 1, 12, 12)
    found = exportable.resized_with_filter(x if size == (1, 4) else x.mT, size).flatten()
    torch.testing.assert_close(found, torch.tensor([1.3, 4.0, 7.0, 9.7]), atol=0.1, rtol=0)


@pytest.mark.parametrize(("old", "new"), [((8, 8), (2, 2)), ((5, 7), (3, 2)), ((1, 3), (2, 4))])
def test_adaptive_means(exporting, old, new):
    x = torch.randn(2, 3, *old)
    torch.testing.assert_close(exportable.adaptive_means(x, new), F.adaptive_avg_pool2d(x, new))


@pytest.mark.parametrize("size", [(8, 8), (7, 5), (6, 9), (1, 1), (1, 2), (33, 40)])
def test_frequencies_and_back(exporting, size):
    x = torch.randn(2, 3, *size)
    spectrum = torch.fft.rfft2(x, norm="ortho")
    parts = exportable.frequencies(x)
    torch.testing.assert_close(torch.view_as_complex(parts), spectrum, atol=5e-6, rtol=1e-5)
    changed = torch.randn_like(parts)
    wanted = torch.fft.irfft2(torch.view_as_complex(changed), s=size, norm="ortho")
    torch.testing.assert_close(exportable.from_frequencies(changed, size), wanted, atol=5e-6, rtol=1e-5)
    product = exportable.complex_product(parts, changed)
    torch.testing.assert_close(
        torch.view_as_complex(product), spectrum * torch.view_as_complex(changed), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("number", [3, 9, 20])
def test_neighbours_where_there_are_few(monkeypatch, number):
    """The largest difference from the neighbours is the same, though the nearest stands there more than once."""
    x, y = torch.randn(2, 6, 4), torch.randn(2, 8, 4)
    usual = neighbours.nearest_neighbours(x, y, number, 2)
    monkeypatch.setattr(neighbours, "is_exporting", lambda: True)
    exported = neighbours.nearest_neighbours(x, y, number, 2)
    assert exported.shape[-1] == number
    for a, b in zip(usual.flatten(0, 1), exported.flatten(0, 1), strict=True):
        assert {*a.tolist()} == {*b.tolist()}


@pytest.mark.parametrize(("number", "divisor", "parts"), [(1, 4, 1), (4, 4, 1), (5, 4, 2)])
def test_division_that_rounds_up(number, divisor, parts):
    assert exportable.ceil_divide(number, divisor) == parts
