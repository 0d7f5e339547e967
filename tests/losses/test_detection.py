"""The set loss: its matching, what it does not depend on, closed forms, and DETR's own values."""

import itertools
import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from restore.layers.box_overlaps import generalised_iou, to_corners
from restore.losses.detection import Predictions, SetLoss, Wanted

KINDS = 4


def drawn(num_images=2, num_queries=7, wanted=(3, 5), *, softmax=False, seed=0):
    random = torch.Generator().manual_seed(seed)

    def boxes(*shape):
        return torch.rand(*shape, 4, generator=random) * 0.3 + torch.tensor([0.3, 0.3, 0.1, 0.1])

    logits = torch.randn(num_images, num_queries, KINDS + softmax, generator=random)
    truths = [Wanted(torch.randint(KINDS, (n,), generator=random), boxes(n)) for n in wanted]
    return Predictions(logits, boxes(num_images, num_queries)), truths


@pytest.mark.parametrize("classification", ["softmax", "focal"])
@pytest.mark.parametrize("seed", range(6))
def test_the_matching_is_the_best_of_all(classification, seed):
    loss = SetLoss(classification)
    predictions, wanted = drawn(1, 6, (4,), softmax=classification == "softmax", seed=seed)
    cost = loss._costs(predictions, wanted)[0]
    rows, columns = loss.match(predictions, wanted)[0]
    best = min(
        sum(cost[row, column].item() for column, row in enumerate(order))
        for order in itertools.permutations(range(6), 4)
    )
    assert cost[rows, columns].sum().item() == pytest.approx(best, abs=1e-5)
    assert sorted(columns.tolist()) == [0, 1, 2, 3]
    assert len(set(rows.tolist())) == 4


@pytest.mark.parametrize("classification", ["softmax", "focal"])
def test_the_order_of_queries_and_of_boxes_does_not_count(classification):
    loss = SetLoss(classification)
    predictions, wanted = drawn(softmax=classification == "softmax")
    before = loss(predictions, wanted)
    order = torch.randperm(7)
    shuffled = Predictions(predictions.logits[:, order], predictions.boxes[:, order])
    turned = [Wanted(kinds.flip(0), boxes.flip(0)) for kinds, boxes in wanted]
    for name, value in loss(shuffled, turned).items():
        torch.testing.assert_close(value, before[name])


def test_a_perfect_answer_costs_nothing():
    _, wanted = drawn(1, 3, (3,))
    logits = torch.full((1, 3, KINDS), -40.0)
    logits[0, torch.arange(3), wanted[0].kinds] = 40.0
    for value in SetLoss()(Predictions(logits, wanted[0].boxes[None]), wanted).values():
        assert value.item() == pytest.approx(0, abs=1e-5)


def test_an_image_without_boxes_pays_for_its_classes_alone():
    predictions, _ = drawn(1, 5, ())
    nothing = [Wanted(torch.zeros(0, dtype=torch.long), torch.zeros(0, 4))]
    parts = SetLoss().parts(predictions, nothing)
    assert parts["box"] == parts["giou"] == 0
    p = predictions.logits.sigmoid()
    assert parts["class"].item() == pytest.approx((0.75 * p**2 * -(1 - p).log()).sum().item(), rel=1e-5)


def test_closed_forms_of_one_box():
    predictions, wanted = drawn(1, 1, (1,))
    parts = SetLoss().parts(predictions, wanted)
    found, truth, kind = predictions.boxes[0, 0], wanted[0].boxes[0], wanted[0].kinds[0]
    assert parts["box"].item() == pytest.approx((found - truth).abs().sum().item())
    assert parts["giou"].item() == pytest.approx(1 - generalised_iou(to_corners(found), to_corners(truth)).item())
    p = predictions.logits[0, 0].sigmoid()
    each = 0.75 * p**2 * -(1 - p).log()
    each[kind] = 0.25 * (1 - p[kind]) ** 2 * -p[kind].log()
    assert parts["class"].item() == pytest.approx(each.sum().item(), rel=1e-5)


def test_without_focus_it_is_half_the_binary_cross_entropy():
    predictions, wanted = drawn()
    loss = SetLoss(alpha=0.5, gamma=0.0)
    target = torch.zeros_like(predictions.logits)
    for image, (rows, columns) in enumerate(loss.match(predictions, wanted)):
        target[image, rows, wanted[image].kinds[columns]] = 1
    expected = F.binary_cross_entropy_with_logits(predictions.logits, target, reduction="sum") / 2 / 8
    torch.testing.assert_close(loss.parts(predictions, wanted)["class"], expected)


@pytest.mark.parametrize("copies", [1, 2, 3])
def test_copies_are_given_to_different_queries(copies):
    predictions, wanted = drawn(1, 9, (3,))
    matches = SetLoss()._matches(predictions, wanted, copies)
    assert len(set(matches.prediction.tolist())) == 3 * copies
    assert sorted(matches.kinds.tolist()) == sorted(wanted[0].kinds.tolist() * copies)


def test_more_boxes_than_queries():
    predictions, wanted = drawn(1, 2, (5,))
    parts = SetLoss().parts(predictions, wanted)
    assert all(value.isfinite() for value in parts.values())
    assert len(SetLoss().match(predictions, wanted)[0][0]) == 2


def test_weights():
    predictions, wanted = drawn()
    loss = SetLoss(class_weight=3, box_weight=4, giou_weight=5, loss_weight=2)
    parts, weighted = loss.parts(predictions, wanted), loss(predictions, wanted)
    for name, weight in (("class", 3), ("box", 4), ("giou", 5)):
        torch.testing.assert_close(weighted[name], 2 * weight * parts[name])


def test_gradients_lead_to_the_wanted_box():
    predictions, wanted = drawn(1, 4, (2,))
    boxes, logits = predictions.boxes.clone().requires_grad_(), predictions.logits.clone().requires_grad_()
    optimizer = torch.optim.Adam([boxes, logits], 0.02)
    for _ in range(300):
        optimizer.zero_grad()
        sum(SetLoss()(Predictions(logits, boxes), wanted).values()).backward()
        optimizer.step()
    rows, columns = SetLoss().match(Predictions(logits, boxes), wanted)[0]
    torch.testing.assert_close(boxes[0, rows].detach(), wanted[0].boxes[columns], atol=0.03, rtol=0)
    assert logits[0].sigmoid().amax(dim=1).gt(0.5).sum() == 2


def test_it_is_detrs(shared):
    stored = np.load(shared("fixtures/encoders/detr_set_loss__two_images.npz"))
    weights = json.loads(str(stored["config"]))["cost"]
    loss = SetLoss("softmax", class_weight=weights["class_"], box_weight=weights["bbox"], giou_weight=weights["giou"])
    predictions = Predictions(*(torch.from_numpy(stored[name]) for name in ("logits", "boxes")))
    wanted = [
        Wanted(torch.from_numpy(stored[f"labels_{i}"]), torch.from_numpy(stored[f"target_boxes_{i}"])) for i in (0, 1)
    ]
    for index, (rows, columns) in enumerate(loss.match(predictions, wanted)):
        ours = dict(zip(rows.tolist(), columns.tolist(), strict=True))
        theirs = dict(zip(stored[f"queries_{index}"].tolist(), stored[f"targets_{index}"].tolist(), strict=True))
        assert ours == theirs
    parts = loss.parts(predictions, wanted)
    for ours, theirs in (("class", "ce"), ("box", "bbox"), ("giou", "giou")):
        assert parts[ours].item() == pytest.approx(float(stored[f"output_loss_{theirs}"]), rel=1e-5)
