from __future__ import annotations

import math

import pytest
import torch

from restore.losses.contrastive import PatchContrastiveLoss


def test_agrees_with_the_formula_term_by_term():
    torch.manual_seed(0)
    features = torch.randn(3, 2, 5)
    unit = features / features.norm(dim=-1, keepdim=True)
    terms = []
    for j in range(3):
        for a in range(2):
            for c in range(2):
                others = sum(math.exp(unit[j, a] @ unit[k, c]) for k in range(3) if k != j)
                terms.append(-math.log(math.exp(unit[j, a] @ unit[j, c]) / others))
    assert PatchContrastiveLoss()(features).item() == pytest.approx(sum(terms) / len(terms), rel=1e-5)


def test_least_where_patches_of_an_image_are_alike_and_images_are_not():
    apart = torch.ones(2, 3, 2)
    apart[1] = -1
    assert PatchContrastiveLoss()(apart).item() == pytest.approx(-2.0)
    assert PatchContrastiveLoss()(apart.abs()).item() == pytest.approx(0.0, abs=1e-6)


def test_gradient_descends():
    torch.manual_seed(0)
    features = torch.randn(3, 4, 8, requires_grad=True)
    before = PatchContrastiveLoss()(features)
    before.backward()
    with torch.no_grad():
        assert PatchContrastiveLoss()(features - features.grad) < before


def test_one_image_is_refused():
    with pytest.raises(ValueError, match="at least two images"):
        PatchContrastiveLoss()(torch.randn(1, 4, 8))
