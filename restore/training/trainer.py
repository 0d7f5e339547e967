"""The training loop.

One iteration: for each micro-batch, each network whose turn it is computes its losses and gradients; then gradients
are clipped, optimizers step, moving averages follow. Nothing in it waits for the device: losses are summed there
and fetched when they are shown. What happens between iterations (reports, validation, checkpoints) are callbacks.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from restore.data.loading import Batch
from restore.errors import DataError, TrainingError
from restore.inference.precision import arithmetic
from restore.networks.checkpoint import digest_of
from restore.training.distribution import Processes, exchanging, load_saved_weights, saved_weights, unwrapped
from restore.training.followers import Follower
from restore.training.guards import FiniteGuard, failures_explained
from restore.training.interrupts import Interrupts
from restore.training.objectives import Objective
from restore.training.objectives.base import AVERAGE
from restore.training.randomness import restore_generators, snapshot_generators
from restore.training.schedules import RateControl

__all__ = ["Callback", "Clock", "Plan", "Trainer"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """The numbers of a run.

    Attributes:
        total_iter: iterations of the whole run.
        accumulate: micro-batches per iteration.
        clip_norm: largest norm of all gradients of a network together; None to leave them.
        dtype: arithmetic of the forward pass: float32, bfloat16, or float16 with gradient scaling. Losses are always
            computed in float32.
    """

    total_iter: int
    accumulate: int = 1
    clip_norm: float | None = None
    dtype: torch.dtype = torch.float32


@dataclass
class Clock:
    """Where the time went since the last report, in seconds."""

    began: float = field(default_factory=time.perf_counter)
    waiting: float = 0.0

    def lap(self) -> tuple[float, float]:
        """Seconds since the last lap, and how many of them were spent waiting for data; starts a new lap."""
        now = time.perf_counter()
        elapsed, waiting = now - self.began, self.waiting
        self.began, self.waiting = now, 0.0
        return elapsed, waiting

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Time spent inside does not count."""
        start = time.perf_counter()
        yield
        self.began += time.perf_counter() - start

    def wait_for(self, batches: Iterator[Batch]) -> Batch:
        """The next batch, its waiting time counted."""
        start = time.perf_counter()
        batch = next(batches)
        self.waiting += time.perf_counter() - start
        return batch


class Callback:
    """Something that happens after iterations; the trainer calls `after_iteration` in the order given."""

    def after_iteration(self, trainer: Trainer) -> None:
        """Called when iteration `trainer.iteration` is finished."""

    def before_giving_up(self, trainer: Trainer) -> None:
        """Called where no iteration can follow `trainer.iteration`, as the data or a validation failed."""

    def go_on(self, trainer: Trainer) -> None:
        """Called before the first iteration of this process, when the state is loaded."""

    def state_dict(self) -> dict[str, Any]:
        """What must survive a restart: plain values and tensors."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""


class Trainer:
    """Runs an objective over batches to the end of its plan.

    Args:
        objective: holds the networks (on their device) and makes losses of batches.
        optimizers: one for each of the objective's networks, over all that learns in its turn.
        rates: their learning rates.
        plan: the numbers of the run.
        processes: the processes that share the run.
        callbacks: what happens after each iteration.

    Attributes:
        iteration: finished iterations.
        started_at: the iteration at which this process took over.
        clock: where the time went.
        interrupted: name of the signal that ended the run early, or None.
    """

    def __init__(
        self,
        objective: Objective,
        optimizers: Mapping[str, Optimizer],
        rates: Mapping[str, RateControl],
        plan: Plan,
        *,
        processes: Processes | None = None,
        callbacks: Sequence[Callback] = (),
    ):
        self.objective = objective
        self.optimizers = dict(optimizers)
        self.rates = dict(rates)
        self.plan = plan
        self.processes = processes or Processes()
        self.callbacks = list(callbacks)
        self.iteration = self.started_at = 0
        self.clock = Clock()
        self.interrupted: str | None = None
        self._interrupts = Interrupts()
        self.device = next(objective.parameters()).device
        self.guard = FiniteGuard(objective)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=plan.dtype is torch.float16)
        self._sums: dict[str, tuple[Tensor, int]] = {}
        self._trainable = {
            turn: [each for module in objective.trained(turn) for each in module.parameters() if each.requires_grad]
            for turn in objective.networks
        }
        self._followers = {turn: self._followers_of(turn) for turn in objective.networks}

    def fit(self, batches: Iterable[Batch]) -> None:
        """Train until `plan.total_iter`, or until a signal asks to stop.

        Args:
            batches: on the device; `plan.accumulate` of them for each iteration still to do.

        Raises:
            DataError: a batch cannot be used; what was learnt until then is kept.
            TrainingError: the batches end too early, or memory is not enough.
        """
        self.objective.train()
        self.started_at = self.iteration
        stream = iter(batches)
        with self._interrupts, failures_explained():
            for callback in self.callbacks:
                callback.go_on(self)
            self.clock.lap()
            while self.iteration < self.plan.total_iter and not self.interrupted:
                self._try_step(stream)
                self.interrupted = self.processes.any(self.stop_requested)
                for callback in self.callbacks:
                    callback.after_iteration(self)

    def _try_step(self, stream: Iterator[Batch]) -> None:
        """One iteration; where its data are bad, those before are kept."""
        done = self.iteration
        try:
            self.step(self._micro_batches(stream))
        except DataError:
            self.iteration = done
            self.keep_what_was_learnt()
            raise

    def keep_what_was_learnt(self) -> None:
        """Called on an error after which the weights are still good: a single process saves them, as it is alone."""
        if self.iteration > self.started_at and self.processes.world_size == 1:
            for callback in self.callbacks:
                callback.before_giving_up(self)

    def step(self, micro_batches: Iterable[Batch]) -> None:
        """One iteration."""
        self.iteration += 1
        for rate in self.rates.values():
            rate.set(self.iteration)
        turns = self.objective.turns(self.iteration)
        for number, batch in enumerate(micro_batches, start=1):
            batch = self.objective.prepare(batch)
            for turn in turns:
                self._gather(self._backward(batch, turn, share=number == self.plan.accumulate))
        for turn in turns:
            self._update(turn)
        for turn in turns:
            for follower in self._followers[turn]:
                follower.update()

    @property
    def stop_requested(self) -> str | None:
        """Name of the signal that asked this process to stop, or None; others of the run may not know of it yet."""
        return self._interrupts.requested

    @property
    def last(self) -> bool:
        """Whether no iteration will follow this one."""
        return self.iteration >= self.plan.total_iter or self.interrupted is not None

    def due(self, every: int | None) -> bool:
        """Whether something that happens every `every` iterations happens after this one."""
        return bool(every) and self.iteration % every == 0

    def fetch_losses(self) -> dict[str, float]:
        """The mean of every loss since the last call. This is where the host waits for the device."""
        self.guard.settle()
        if not self._sums:
            return {}
        means = self.processes.mean(torch.stack([total / count for total, count in self._sums.values()]))
        names, self._sums = list(self._sums), {}
        return dict(zip(names, means.tolist(), strict=True))

    @property
    def network(self) -> nn.Module:
        """The network to validate: the average if there is one, else the first network."""
        average = self.objective.average
        return unwrapped(next(iter(self.objective.networks.values()))) if average is None else average.network

    @property
    def setting(self) -> dict[str, Any]:
        """How this run learns, by option path, as far as neither optimizers nor schedules save it: plain values."""
        average = self.objective.average
        setting: dict[str, Any] = {
            "train.ema_decay": 0.0 if average is None else average.decay,
            "train.accumulate": self.plan.accumulate,
            "train.clip_norm": self.plan.clip_norm,
            "train.precision": str(self.plan.dtype).removeprefix("torch."),
        }
        for letter, rate in self.rates.items():
            setting[f"train.optim_{letter}.type"] = type(rate.optimizer).__name__
            setting["train.scheduler.type"] = type(rate.schedule).__name__
            setting["train.warmup_iter"] = max(rate.warmup_iter, 0)
        return setting | self._frozen_digests

    @functools.cached_property
    def _frozen_digests(self) -> dict[str, str]:
        """What tells the weights of frozen networks from others."""
        return {f"the frozen network '{name}'": digest_of(each)[:12] for name, each in self.objective.frozen.items()}

    def state_dict(self) -> dict[str, Any]:
        """Everything besides the networks' weights that later processes need to go on bit by bit.

        It is complete on the main process, which writes it.
        """
        self.guard.settle()
        average, keep = self.objective.average, self.processes.is_main
        return {
            "setting": self.setting,
            "generators": self.processes.collect(snapshot_generators()),
            "objective": self.processes.collect(self.objective.running_state()),
            "scaler": self.scaler.state_dict(),
            "ema_updates": 0 if average is None else average.num_updates,
            "heads": {name: saved_weights(head, keep=keep) for name, head in self.objective.heads.items()},
            "followers": {
                name: {"weights": saved_weights(each.network, keep=keep), "num_updates": each.num_updates}
                for name, each in self.objective.followers.items()
                if name != AVERAGE  # which is saved beside the network
            },
            "losses": self.processes.collect(dict(self._sums)),
            "callbacks": {type(callback).__name__: callback.state_dict() for callback in self.callbacks},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` gave.

        Raises:
            TrainingError: the state has other heads or followers.
            CheckpointError: one of them is of another shape.
        """
        if state["scaler"]:  # empty if it was not needed
            self.scaler.load_state_dict(state["scaler"])
        if self.objective.average is not None:
            self.objective.average.num_updates = state["ema_updates"]
        for name, (head, weights) in _matched("heads", self.objective.heads, state).items():
            load_saved_weights(head, weights, f"head '{name}' of the training state")
        followers = {name: each for name, each in self.objective.followers.items() if name != AVERAGE}
        for name, (follower, saved) in _matched("followers", followers, state).items():
            load_saved_weights(follower.network, saved["weights"], f"follower '{name}' of the training state")
            follower.num_updates = saved["num_updates"]
        for callback in self.callbacks:
            callback.load_state_dict(state["callbacks"].get(type(callback).__name__, {}))
        if len(state["generators"]) == self.processes.world_size:
            restore_generators(state["generators"][self.processes.rank])
            sums = state["losses"][self.processes.rank]
            self._sums = {name: (total.to(self.device), count) for name, (total, count) in sums.items()}
            self.objective.load_running_state(state["objective"][self.processes.rank], self.device)
        else:
            log.warning(
                "resuming with another number of processes: random generators start from the seed, pools of pairs empty"
            )

    def _micro_batches(self, stream: Iterator[Batch]) -> Iterator[Batch]:
        for _ in range(self.plan.accumulate):
            try:
                yield self.clock.wait_for(stream)
            except StopIteration:
                raise TrainingError(
                    f"the data ended in iteration {self.iteration} of {self.plan.total_iter}."
                ) from None

    def _backward(self, batch: Batch, turn: str, share: bool) -> dict[str, Tensor]:
        """Add the gradients of one micro-batch; `share` averages them over the processes."""
        self._freeze_all_but(turn)
        with contextlib.ExitStack() as stack:
            for module in self.objective.trained(turn):
                stack.enter_context(exchanging(module, share))
            with arithmetic(self.device, self.plan.dtype):
                losses = self.objective.losses(batch, turn)
            self.guard.look(losses, batch, turn, self.iteration)
            total = sum(value for name, value in losses.items() if name.startswith("l_"))
            if not self.scaler.is_enabled():  # which protects the weights itself
                self.guard.protect(self.optimizers[turn], total)
            self.scaler.scale(total / self.plan.accumulate).backward()
        return losses

    def _update(self, turn: str) -> None:
        optimizer = self.optimizers[turn]
        if self.plan.clip_norm is not None:
            self.scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(self._trainable[turn], self.plan.clip_norm)
        self.scaler.step(optimizer)
        self.scaler.update()
        optimizer.zero_grad(set_to_none=True)
        optimizer.found_inf = None

    def _gather(self, losses: Mapping[str, Tensor]) -> None:
        for name, value in losses.items():
            total, count = self._sums.get(name, (0, 0))
            self._sums[name] = (total + value.detach(), count + 1)

    def _followers_of(self, turn: str) -> list[Follower]:
        """Those that follow something which learns in this turn."""
        learning = {id(parameter) for parameter in self._trainable[turn]}
        return [
            follower
            for follower in self.objective.followers.values()
            if any(id(parameter) in learning for parameter in follower.followed.parameters())
        ]

    def _freeze_all_but(self, turn: str) -> None:
        if len(self._trainable) > 1:
            for name, parameters in self._trainable.items():
                for parameter in parameters:
                    parameter.requires_grad_(name == turn)


def _matched(kind: str, modules: Mapping[str, nn.Module], state: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Each of an objective's `heads` or `followers` with what a state has of it."""
    saved = state.get(kind, {})
    if set(saved) != set(modules):
        has, needs = (", ".join(names) or "none" for names in (saved, modules))
        raise TrainingError(f"the state to resume from has the {kind}: {has}; this model_type has: {needs}.")
    return {name: (module, saved[name]) for name, module in modules.items()}
