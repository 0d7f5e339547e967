"""Losses between a network and its teacher, by their formulas."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from restore.errors import ImageError, OptionsError
from restore.losses.distillation import (
    AnswerLoss,
    FeatureDistillationLoss,
    HardDistillationLoss,
    RelationDistillationLoss,
    SoftDistillationLoss,
    as_map,
)
from restore.registry import LOSSES


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def test_equal_answers_cost_nothing():
    image, logits, scores = torch.rand(2, 3, 8, 8), torch.randn(4, 5), torch.rand(4)
    for answer in (image, logits, scores):
        assert SoftDistillationLoss(temperature=3)(answer, answer).abs() < 1e-6
    assert HardDistillationLoss()(image, image) == 0
    features = torch.randn(2, 6, 8, 8)
    assert FeatureDistillationLoss("a", "b")(features, features) == 0
    assert RelationDistillationLoss("a", "b")(features, features).abs() < 1e-6


def test_images_are_compared_by_their_differences():
    ours, theirs = torch.rand(2, 3, 8, 8), torch.rand(2, 3, 8, 8)
    for loss in (HardDistillationLoss(0.5), SoftDistillationLoss(0.5)):
        torch.testing.assert_close(loss(ours, theirs), 0.5 * (ours - theirs).abs().mean())


def test_any_loss_between_images_compares_with_the_answer():
    ours, theirs = torch.rand(2, 3, 8, 8), 1.2 * torch.rand(2, 3, 8, 8)
    by_pixels = AnswerLoss({"type": "L1Loss", "loss_weight": 3.0}, loss_weight=0.5)
    torch.testing.assert_close(by_pixels(ours, theirs), 1.5 * (ours - theirs.clamp(0, 1)).abs().mean())
    spectra = AnswerLoss("FFTLoss")
    torch.testing.assert_close(spectra(ours, theirs), LOSSES.build("FFTLoss")(ours, theirs.clamp(0, 1)))
    with pytest.raises(OptionsError, match=r"train.lpips_opt.loss.type: unknown loss 'L1Los'"):
        LOSSES.build({"type": "AnswerLoss", "loss": {"type": "L1Los"}}, path="train.lpips_opt")


def test_logits_are_compared_as_in_deit():
    ours, theirs = torch.randn(4, 5), torch.randn(4, 5)
    torch.testing.assert_close(HardDistillationLoss()(ours, theirs), F.cross_entropy(ours, theirs.argmax(1)))
    shares, wanted = (ours / 3).softmax(1), (theirs / 3).softmax(1)
    by_hand = 9 * (wanted * (wanted / shares).log()).sum(1).mean()
    torch.testing.assert_close(SoftDistillationLoss(temperature=3)(ours, theirs), by_hand)


def test_at_high_temperatures_the_gradient_is_the_difference_of_logits():
    """Hinton et al. 2015, equation 4: (z - v) / L for logits of mean zero, with the factor temperature^2."""
    ours, theirs = torch.randn(1, 5), torch.randn(1, 5)
    ours, theirs = (ours - ours.mean()).requires_grad_(), theirs - theirs.mean()
    SoftDistillationLoss(temperature=1000)(ours, theirs).backward()
    torch.testing.assert_close(ours.grad, (ours - theirs).detach() / 5, rtol=0.01, atol=1e-3)


def test_scores_are_compared_by_squares():
    ours, theirs = torch.rand(6), torch.rand(6)
    for loss in (HardDistillationLoss(), SoftDistillationLoss()):
        torch.testing.assert_close(loss(ours, theirs), (ours - theirs).square().mean())


def test_features_are_compared_relative_to_the_teachers():
    theirs = 100 * torch.randn(2, 6, 8, 8)
    loss = FeatureDistillationLoss("a", "b", loss_weight=2)
    torch.testing.assert_close(loss(torch.zeros_like(theirs), theirs), torch.tensor(2.0))
    torch.testing.assert_close(loss(0.5 * theirs, theirs), torch.tensor(0.5))
    head = loss.head(4, 6)
    assert loss(head(torch.randn(2, 4, 4, 4)), theirs).ndim == 0  # another size


def test_relations_do_not_know_channels_scales_or_signs():
    ours = torch.randn(2, 8, 6, 6)
    loss = RelationDistillationLoss("a", "b")
    wider = torch.cat([3 * ours, 3 * ours], dim=1)
    assert loss.head(8, 16) is None
    relations = (x.flatten(2).transpose(1, 2) for x in (ours, -5 * ours))
    rows = [F.layer_norm(x, x.shape[2:]) for x in relations]
    rows = [(x @ x.transpose(1, 2) / math.sqrt(8)).log_softmax(2) for x in rows]
    torch.testing.assert_close(rows[0], rows[1], rtol=1e-4, atol=1e-4)
    assert loss(ours, -5 * ours).abs() < 1e-4
    assert loss(ours, wider) > 0  # sharper rows: twice the channels
    by_hand = F.kl_div(rows[0], torch.full_like(rows[0], 1 / 36).log(), log_target=True, reduction="none").sum(2).mean()
    torch.testing.assert_close(loss(ours, torch.ones_like(ours)), by_hand, rtol=1e-4, atol=1e-4)


def test_relations_of_large_maps_are_those_of_their_averages():
    ours, theirs = torch.randn(1, 4, 32, 32), torch.randn(1, 4, 64, 64)
    loss = RelationDistillationLoss("a", "b", max_side=8)
    small = RelationDistillationLoss("a", "b")(F.avg_pool2d(ours, 4), F.avg_pool2d(theirs, 8))
    torch.testing.assert_close(loss(ours, theirs), small)


def test_tokens_and_channels_last_maps_become_maps():
    x_BCHW = torch.rand(2, 4, 3, 3)
    assert torch.equal(as_map(x_BCHW, "BCHW", "x"), x_BCHW)
    assert torch.equal(as_map(x_BCHW.permute(0, 2, 3, 1), "BHWC", "x"), x_BCHW)
    assert torch.equal(as_map(x_BCHW.flatten(2).transpose(1, 2), "BCHW", "x"), x_BCHW)
    for features in (torch.rand(2, 10, 4), torch.rand(2, 4)):
        with pytest.raises(ImageError, match=r"'layers\.1' gives"):
            as_map(features, "BCHW", "layers.1")


def test_the_teacher_gets_no_gradients():
    ours, theirs = (torch.rand(2, 3, 4, 4, requires_grad=True) for _ in range(2))
    for name in ("HardDistillationLoss", "SoftDistillationLoss"):
        LOSSES.build({"type": name})(ours, theirs).backward()
    assert theirs.grad is None
    assert ours.grad is not None


def test_a_temperature_that_cannot_be():
    with pytest.raises(OptionsError, match="temperature must be greater than 0; given: 0"):
        LOSSES.build({"type": "SoftDistillationLoss", "temperature": 0}, path="train.distill_opt")
