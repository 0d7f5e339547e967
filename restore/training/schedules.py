"""Learning-rate schedules as closed forms of the iteration: nothing to save, nothing to drift, resumable anywhere.

A schedule is called with the number of finished iterations and the base rate and returns the rate of the next
iteration. Names and options are BasicSR's (and its forks'), with one defect of theirs not kept: BasicSR's multi-step
schedule goes on from the last warm-up value, and so stays a step below the configured rate until the first restart.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch.optim import Optimizer

from restore.registry import SCHEDULERS

__all__ = [
    "Constant",
    "CosineAnnealingRestartCyclicLR",
    "CosineAnnealingRestartLR",
    "HoldCosineLR",
    "MultiStepLR",
    "OneCycleLR",
    "RateControl",
    "Schedule",
    "TrueCosineAnnealingLR",
    "stretched",
]

Schedule = Callable[[int, float], float]

_IN_ITERATIONS = ("milestones", "restarts", "periods", "T_max", "hold", "total", "total_steps")


class RateControl:
    """Sets the learning rates of an optimizer for each iteration: linear warm-up, then the schedule.

    Args:
        optimizer: each parameter group keeps its own base rate (`initial_lr`).
        schedule: the rate after the warm-up.
        warmup_iter: iterations in which the rate rises linearly from nothing; -1 or 0 for none.
    """

    def __init__(self, optimizer: Optimizer, schedule: Schedule, warmup_iter: int = -1):
        self.optimizer = optimizer
        self.schedule = schedule
        self.warmup_iter = warmup_iter
        for group in optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])

    def set(self, iteration: int) -> float:
        """Set the rates for iteration number `iteration`, counted from 1; returns the first group's."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate(iteration, group["initial_lr"])
        return self.optimizer.param_groups[0]["lr"]

    def rate(self, iteration: int, base: float) -> float:
        """The rate of iteration number `iteration`, counted from 1, for a group whose base rate is `base`."""
        if iteration < self.warmup_iter:
            return base * iteration / self.warmup_iter
        return self.schedule(iteration - 1, base)

    def state_dict(self, iteration: int) -> dict:
        """What BasicSR's schedulers read from a `.state` file. We need none of it: the rates are closed forms."""
        base = [group["initial_lr"] for group in self.optimizer.param_groups]
        rates = [group["lr"] for group in self.optimizer.param_groups]
        step = max(iteration - 1, 0)
        fields = {key: value for key, value in vars(self.schedule).items() if not key.startswith("_")}
        return {**fields, "base_lrs": base, "last_epoch": step, "_step_count": step + 1, "_last_lr": rates}


def stretched(block: Mapping[str, Any], factor: float) -> dict[str, Any]:
    """The block of a scheduler for a training that is `factor` times as long: what counts iterations, rounded up."""

    def longer(count: int) -> int:
        return math.ceil(round(count * factor, 6))

    return dict(block) | {
        key: [longer(each) for each in block[key]] if isinstance(block[key], Sequence) else longer(block[key])
        for key in _IN_ITERATIONS
        if key in block
    }


@SCHEDULERS.add("Constant", "ConstantLR")
class Constant:
    """The base rate throughout."""

    def __call__(self, done: int, base: float) -> float:
        """The rate after `done` finished iterations."""
        return base


@SCHEDULERS.add("MultiStepLR", "MultiStepRestartLR")
class MultiStepLR:
    """Multiply by `gamma` after each milestone, counted anew from each restart.

    Args:
        milestones: finished iterations after which the rate falls.
        gamma: the factor of each fall.
        restarts: finished iterations after which the rate returns to `restart_weights` times the base rate.
        restart_weights: one for each restart.
    """

    def __init__(
        self,
        milestones: Sequence[int],
        gamma: float = 0.1,
        restarts: Sequence[int] = (0,),
        restart_weights: Sequence[float] = (1,),
    ):
        if len(restarts) != len(restart_weights):
            raise ValueError(f"{len(restarts)} restarts need as many restart_weights, not {len(restart_weights)}")
        self.milestones = sorted(milestones)
        self.gamma = gamma
        self.restarts = list(restarts)
        self.restart_weights = list(restart_weights)

    def __call__(self, done: int, base: float) -> float:
        """The rate after `done` finished iterations."""
        passed = [
            (start, weight) for start, weight in zip(self.restarts, self.restart_weights, strict=True) if start <= done
        ]
        start, weight = max(passed, default=(0, 1.0))
        falls = bisect.bisect_right(self.milestones, done) - bisect.bisect_right(self.milestones, start)
        return base * weight * self.gamma**falls


class _Periodic:
    """Which period an iteration falls into, and how far it is in it."""

    def __init__(self, periods: Sequence[int], **per_period: Sequence[float]):
        for name, values in per_period.items():
            if len(values) != len(periods):
                raise ValueError(f"{len(periods)} periods need as many {name}, not {len(values)}")
        self.periods = list(periods)
        self._ends = list(itertools.accumulate(periods))

    def _locate(self, done: int) -> tuple[int, float]:
        index = min(bisect.bisect_left(self._ends, done), len(self.periods) - 1)
        start = self._ends[index - 1] if index else 0
        return index, min((done - start) / self.periods[index], 1.0)


@SCHEDULERS.add()
class CosineAnnealingRestartLR(_Periodic):
    """Half a cosine from the base rate to `eta_min` in each period; the last value is held after the last period.

    Args:
        periods: lengths of the periods, in iterations.
        restart_weights: the rate at the start of each period, as a multiple of the base rate.
        eta_min: the lowest rate.
    """

    def __init__(self, periods: Sequence[int], restart_weights: Sequence[float] = (1,), eta_min: float = 0):
        super().__init__(periods, restart_weights=restart_weights)
        self.restart_weights = list(restart_weights)
        self.eta_min = eta_min

    def __call__(self, done: int, base: float) -> float:
        """The rate after `done` finished iterations."""
        index, share = self._locate(done)
        return self.eta_min + self.restart_weights[index] * (base - self.eta_min) * _half_cosine(share)


@SCHEDULERS.add()
class CosineAnnealingRestartCyclicLR(_Periodic):
    """Restormer's: as `CosineAnnealingRestartLR`, with a lowest rate for each period."""

    def __init__(
        self, periods: Sequence[int], restart_weights: Sequence[float] = (1,), eta_mins: Sequence[float] = (0,)
    ):
        super().__init__(periods, restart_weights=restart_weights, eta_mins=eta_mins)
        self.restart_weights = list(restart_weights)
        self.eta_mins = list(eta_mins)

    def __call__(self, done: int, base: float) -> float:
        """The rate after `done` finished iterations."""
        index, share = self._locate(done)
        lowest = self.eta_mins[index]
        return lowest + self.restart_weights[index] * (base - lowest) * _half_cosine(share)


@SCHEDULERS.add("TrueCosineAnnealingLR", "CosineAnnealingLR")
class TrueCosineAnnealingLR:
    """NAFNet's, which is torch's `CosineAnnealingLR`: a cosine of period 2 `T_max`, rising again after `T_max`."""

    def __init__(self, T_max: int, eta_min: float = 0):
        self.T_max = T_max
        self.eta_min = eta_min

    def __call__(self, done: int, base: float) -> float:
        """The rate after `done` finished iterations."""
        return self.eta_min + (base - self.eta_min) * _half_cosine(done / self.T_max)


@SCHEDULERS.add()
class HoldCosineLR:
    """The base rate for a while, then half a cosine down to `eta_min`, as TRIQ is trained.

    Args:
        hold: iterations at the base rate, those of the warm-up among them.
        total: iterations after which `eta_min` is reached.
        eta_min: the lowest rate.
    """

    def __init__(self, hold: int, total: int, eta_min: float = 0):
        if not 0 <= hold < total:
            raise ValueError(f"hold {hold} must be less than total {total}")
        self.hold = hold
        self.total = total
        self.eta_min = eta_min

    def __call__(self, done: int, base: float) -> float:
        """The rate after `done` finished iterations."""
        share = min(max(done - self.hold, 0) / (self.total - self.hold), 1.0)
        return self.eta_min + (base - self.eta_min) * _half_cosine(share)


@SCHEDULERS.add()
class OneCycleLR:
    """One cosine rise to `max_lr` and one cosine fall (Smith and Topin 2018); the base rate is not used.

    Args:
        max_lr: the highest rate.
        total_steps: length of the cycle, in iterations.
        pct_start: share of the cycle in which the rate rises.
        div_factor: `max_lr` over the first rate.
        final_div_factor: the first rate over the last one.
    """

    def __init__(
        self,
        max_lr: float,
        total_steps: int,
        pct_start: float = 0.3,
        div_factor: float = 25,
        final_div_factor: float = 1e4,
    ):
        self.max_lr = max_lr
        self.total_steps = total_steps
        self.pct_start = pct_start
        self.div_factor = div_factor
        self.final_div_factor = final_div_factor

    def __call__(self, done: int, base: float) -> float:
        """The rate after `done` finished iterations."""
        first = self.max_lr / self.div_factor
        peak = self.pct_start * self.total_steps - 1
        if done <= peak:
            return self.max_lr + (first - self.max_lr) * _half_cosine(done / peak)
        share = min((done - peak) / (self.total_steps - 1 - peak), 1.0)
        last = first / self.final_div_factor
        return last + (self.max_lr - last) * _half_cosine(share)


def _half_cosine(share: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * share))
