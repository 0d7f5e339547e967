"""Schedules against torch's own, against BasicSR's documented behaviour, and through warm-up."""

from __future__ import annotations

import math

import pytest
import torch

from restore.errors import OptionsError
from restore.registry import SCHEDULERS
from restore.training.schedules import RateControl, stretched

BASE = 2e-4


def rates(block, steps, base=BASE):
    schedule = SCHEDULERS.build(block)
    return [schedule(step, base) for step in range(steps)]


def torch_rates(make, steps, lr=BASE):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr)
    scheduler = make(optimizer)
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def test_multi_step_agrees_with_torch():
    ours = rates({"type": "MultiStepLR", "milestones": [3, 5, 5, 9], "gamma": 0.5}, 12)
    theirs = torch_rates(lambda o: torch.optim.lr_scheduler.MultiStepLR(o, [3, 5, 5, 9], 0.5), 12)
    assert ours == pytest.approx(theirs, rel=1e-12)


def test_multi_step_restarts_return_to_the_weighted_base_rate():
    block = {"type": "MultiStepRestartLR", "milestones": [2, 6], "gamma": 0.1}
    ours = rates({**block, "restarts": [0, 4], "restart_weights": [1, 0.5]}, 8, base=1.0)
    assert ours == pytest.approx([1, 1, 0.1, 0.1, 0.5, 0.5, 0.05, 0.05])


def test_true_cosine_agrees_with_torch():
    ours = rates({"type": "TrueCosineAnnealingLR", "T_max": 10, "eta_min": 1e-7}, 25)
    theirs = torch_rates(lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 10, 1e-7), 25)
    assert ours == pytest.approx(theirs, rel=1e-6, abs=1e-12)


def test_one_cycle_agrees_with_torch():
    ours = rates({"type": "OneCycleLR", "max_lr": 1e-3, "total_steps": 20}, 20)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=20, cycle_momentum=False)
    theirs = [optimizer.param_groups[0]["lr"]]
    for _ in range(19):
        optimizer.step()
        scheduler.step()
        theirs.append(optimizer.param_groups[0]["lr"])
    assert ours == pytest.approx(theirs, rel=1e-9)


def test_cosine_restarts():
    block = {"type": "CosineAnnealingRestartLR", "periods": [4, 4], "restart_weights": [1, 0.5], "eta_min": 0.1}
    ours = rates(block, 12, base=1.0)
    first = [0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * step / 4)) for step in range(5)]
    second = [0.1 + 0.5 * 0.9 * 0.5 * (1 + math.cos(math.pi * step / 4)) for step in range(1, 5)]
    assert ours[:9] == pytest.approx(first + second)
    assert ours[9:] == pytest.approx([0.1] * 3)  # held, where BasicSR raises


def test_cyclic_cosine_has_a_lowest_rate_for_each_period():
    block = {
        "type": "CosineAnnealingRestartCyclicLR",
        "periods": [3, 5],
        "restart_weights": [1, 1],
        "eta_mins": [1.0, 0.0],
    }
    ours = rates(block, 9, base=1.0)
    assert ours[:4] == [1.0] * 4
    assert ours[8] == pytest.approx(0.0)


def test_warm_up_rises_to_the_base_rate_and_hands_over():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    control = RateControl(optimizer, SCHEDULERS.build({"type": "MultiStepLR", "milestones": [6]}), warmup_iter=4)
    assert [control.set(iteration) for iteration in range(1, 9)] == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1, 0.1, 0.1])


def test_each_parameter_group_keeps_its_own_base_rate():
    groups = [{"params": [torch.zeros(1, requires_grad=True)], "lr": rate} for rate in (1.0, 0.5)]
    optimizer = torch.optim.SGD(groups, lr=1.0)
    RateControl(optimizer, SCHEDULERS.build({"type": "MultiStepLR", "milestones": [1]})).set(2)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.1, 0.05])


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"type": "MultiStepLR", "milestone": [1]}, "milestones"),
        ({"type": "MultiStepLr", "milestones": [1]}, "MultiStepLR"),
        ({"type": "CosineAnnealingRestartLR", "periods": "no"}, "periods"),
    ],
)
def test_mistakes_are_named(block, message):
    with pytest.raises(OptionsError, match=message):
        SCHEDULERS.build(block)


def test_periods_and_weights_must_match():
    with pytest.raises(ValueError, match="2 periods need as many restart_weights"):
        SCHEDULERS.build({"type": "CosineAnnealingRestartLR", "periods": [1, 2]})


def test_a_rate_that_holds_and_then_falls():
    ours = rates({"type": "HoldCosineLR", "hold": 4, "total": 8, "eta_min": 1e-5}, 10)
    assert ours[:5] == pytest.approx([ours[0]] * 5)
    assert ours[6] == pytest.approx((ours[0] + 1e-5) / 2)
    assert ours[8:] == pytest.approx([1e-5] * 2)
    with pytest.raises(ValueError, match="less than total"):
        SCHEDULERS.build({"type": "HoldCosineLR", "hold": 8, "total": 8})


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        ({"type": "HoldCosineLR", "hold": 40, "total": 100, "eta_min": 1e-6}, {"hold": 10, "total": 25}),
        ({"type": "CosineAnnealingRestartLR", "periods": [30, 70], "restart_weights": [1, 1]}, {"periods": [8, 18]}),
        ({"type": "MultiStepLR", "milestones": [50, 80], "gamma": 0.5, "restarts": [0]}, {"milestones": [13, 20]}),
        ({"type": "TrueCosineAnnealingLR", "T_max": 100}, {"T_max": 25}),
        ({"type": "OneCycleLR", "max_lr": 1e-3, "total_steps": 100}, {"total_steps": 25}),
        ({"type": "ConstantLR"}, {}),
    ],
)
def test_a_schedule_is_stretched_with_its_training(block, expected):
    assert stretched(block, 0.25) == block | expected
    assert SCHEDULERS.build(stretched(block, 0.25))(0, 1.0) >= 0
