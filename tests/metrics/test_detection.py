"""Average precision: cases that are known by hand, and what it does not depend on."""

import math
import random

import pytest

from restore.detection import Finding
from restore.metrics.detection import average_precision, mean_average_precision, precision_and_recall

BOX, NEAR, FAR = (0.0, 0, 10, 10), (1.0, 0, 11, 10), (50.0, 50, 60, 60)


def found(*boxes_and_scores, kind="dust"):
    return [Finding(kind, box, score) for box, score in boxes_and_scores]


def test_all_and_nothing():
    wanted = found((BOX, 1), (FAR, 1))
    assert average_precision([(wanted, wanted)], "dust") == 1
    assert average_precision([([], wanted)], "dust") == 0
    assert average_precision([(found((BOX, 0.9)), wanted)], "dust") == 0.5
    assert math.isnan(average_precision([(wanted, [])], "dust"))
    assert math.isnan(average_precision([(wanted, wanted)], "text"))


def test_by_hand():
    """Right, wrong, right, wrong, right of four boxes: 1, 1/2, 2/3, 2/4, 3/5; raised: 1, 2/3, 2/3, 3/5, 3/5."""
    boxes = [(20.0 * n, 0, 20.0 * n + 10, 10) for n in range(4)]
    findings = found((boxes[0], 0.9), (FAR, 0.8), (boxes[1], 0.7), (FAR, 0.6), (boxes[2], 0.5))
    pairs = [(findings, found(*((box, 1) for box in boxes)))]
    precision, recall = precision_and_recall(pairs, "dust")
    assert precision.tolist() == pytest.approx([1, 1 / 2, 2 / 3, 2 / 4, 3 / 5])
    assert recall.tolist() == [0.25, 0.25, 0.5, 0.5, 0.75]
    assert average_precision(pairs, "dust") == pytest.approx((1 + 2 / 3 + 3 / 5) / 4)


def test_a_box_is_found_once():
    twice = found((BOX, 0.9), (NEAR, 0.8))
    precision, recall = precision_and_recall([(twice, found((BOX, 1)))], "dust")
    assert precision.tolist() == [1, 0.5]
    assert recall.tolist() == [1, 1]


@pytest.mark.parametrize(("shift", "right"), [(3.3, 1.0), (3.4, 0.0)])
def test_half_of_the_union_is_the_border(shift, right):
    moved = (shift, 0, 10 + shift, 10)  # (10 - s) / (10 + s) is 1/2 at s = 10 / 3
    assert average_precision([(found((moved, 1)), found((BOX, 1)))], "dust") == right
    assert average_precision([(found((moved, 1)), found((BOX, 1)))], "dust", min_iou=0.4) == 1


def test_images_and_kinds_do_not_meet():
    pairs = [(found((BOX, 1)), []), ([], found((BOX, 1)))]
    assert average_precision(pairs, "dust") == 0
    assert average_precision([(found((BOX, 1), kind="text"), found((BOX, 1)))], "dust") == 0
    mean, kinds = mean_average_precision([(found((BOX, 1)), found((BOX, 1)))], ["dust", "text"])
    assert mean == 1
    assert kinds["dust"] == 1
    assert math.isnan(kinds["text"])


def test_only_the_order_of_scores_counts():
    draw = random.Random(0)
    boxes = [(20.0 * n, 0, 20.0 * n + 10, 10) for n in range(12)]
    findings = found(*((draw.choice([box, FAR]), draw.random()) for box in boxes))
    wanted = found(*((box, 1) for box in boxes))
    first = average_precision([(findings, wanted)], "dust")
    shuffled = [each._replace(score=each.score**3 / 7) for each in draw.sample(findings, len(findings))]
    assert average_precision([(shuffled, draw.sample(wanted, 12))], "dust") == pytest.approx(first)
    halves = [(findings[:6], wanted[:6]), (findings[6:], wanted[6:])]
    assert average_precision(halves, "dust") == pytest.approx(first)
