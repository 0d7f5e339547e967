"""Boxes: areas, overlaps and forms."""

import pytest
import torch

from restore.layers.box_overlaps import box_areas, generalised_iou, intersections, iou, to_centres, to_corners


def drawn(number, seed=0):
    corners = torch.rand(number, 2, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).sort(1)[0]
    return corners.flatten(1)


def test_forms():
    corners = drawn(20)
    torch.testing.assert_close(to_corners(to_centres(corners)), corners)
    assert to_centres(torch.tensor([1.0, 2, 5, 10])).tolist() == [3, 6, 4, 8]


def test_by_hand():
    one, other = torch.tensor([0.0, 0, 4, 2]), torch.tensor([2.0, 1, 6, 3])
    assert box_areas(one) == 8
    assert intersections(one, other) == 2
    assert iou(one, other) == pytest.approx(2 / 14)
    assert generalised_iou(one, other) == pytest.approx(2 / 14 - (18 - 14) / 18)
    assert box_areas(torch.tensor([4.0, 0, 2, 2])) == 0


def test_overlaps_are_those_of_pixels():
    random = torch.Generator().manual_seed(1)
    corners = torch.randint(0, 20, (12, 2, 2), generator=random).sort(1)[0].flatten(1).double()
    grid = torch.arange(20) + 0.5
    inside = [
        ((grid > y0) & (grid < y1))[:, None] & ((grid > x0) & (grid < x1))[None] for x0, y0, x1, y1 in corners.tolist()
    ]
    for i, a in enumerate(inside):
        for j, b in enumerate(inside):
            union = (a | b).sum().item()
            expected = (a & b).sum().item() / union if union else 0
            assert iou(corners[i], corners[j]).item() == pytest.approx(expected)


def test_the_general_one_is_at_most_the_plain_one_and_equal_where_one_holds_the_other():
    one, other = drawn(30), drawn(30, 1)
    plain, general = iou(one[:, None], other), generalised_iou(one[:, None], other)
    assert (general <= plain + 1e-12).all()
    assert (general > -1).all()
    inner = torch.cat([one[:, :2] * 0.7 + one[:, 2:] * 0.3, one[:, :2] * 0.4 + one[:, 2:] * 0.6], dim=1)
    torch.testing.assert_close(generalised_iou(one, inner), iou(one, inner))
    torch.testing.assert_close(generalised_iou(one, one), torch.ones(30, dtype=torch.float64))
    torch.testing.assert_close(generalised_iou(one[:, None], other), generalised_iou(other, one[:, None]))


def test_empty_boxes_have_values_and_gradients():
    empty = torch.zeros(1, 4, requires_grad=True)
    value = generalised_iou(empty, torch.tensor([[0.2, 0.2, 0.4, 0.4]])) + iou(empty, empty)
    value.sum().backward()
    assert value.isfinite().all()
    assert empty.grad.isfinite().all()
