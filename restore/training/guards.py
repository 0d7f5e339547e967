"""Stops a run at its first loss that is not finite, and says where it came from.

On the CPU every loss is looked at before its gradients are computed. On a GPU the answer travels back by itself and is
read when it has arrived, an iteration or so later; until then a fused optimizer leaves the weights as they are where
the loss was not finite (`found_inf`), so the weights in memory stay good as well.
"""

from __future__ import annotations

import contextlib
import math
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from restore.data.loading import Batch
from restore.errors import TrainingError
from restore.training.objectives import Objective
from restore.training.sharding import is_sharded, local

__all__ = ["BUILDING_ADVICE", "FiniteGuard", "failures_explained", "first_bad_module"]

_MOST_PENDING = 4


@dataclass
class _Pending:
    """A question on its way from the device."""

    iteration: int
    turn: str
    batch: Batch
    names: list[str]
    values: Tensor
    arrived: torch.cuda.Event


class FiniteGuard:
    """Looks at every loss of a run.

    Args:
        objective: whose losses they are; asked again to find the module at fault.
    """

    def __init__(self, objective: Objective):
        self.objective = objective
        self._pending: deque[_Pending] = deque()

    def look(self, losses: Mapping[str, Tensor], batch: Batch, turn: str, iteration: int) -> None:
        """Take in the losses of a micro-batch; called before their gradients are computed.

        Raises:
            TrainingError: one of these, or of an earlier micro-batch, is not finite.
        """
        values = torch.stack([value.detach() for value in losses.values()])
        if values.device.type != "cuda":
            self._judge(values.tolist(), list(losses), batch, turn, iteration)
            return
        host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
        host.copy_(values, non_blocking=True)
        arrived = torch.cuda.Event()
        arrived.record()
        self._pending.append(_Pending(iteration, turn, batch, list(losses), host, arrived))
        self.settle(wait=len(self._pending) > _MOST_PENDING)

    def settle(self, *, wait: bool = True) -> None:
        """Judge what has arrived; with `wait`, everything."""
        while self._pending and (wait or self._pending[0].arrived.query()):
            first = self._pending.popleft()
            first.arrived.synchronize()
            self._judge(first.values.tolist(), first.names, first.batch, first.turn, first.iteration)

    @staticmethod
    def protect(optimizer: Optimizer, total: Tensor) -> None:
        """Let a fused optimizer on a GPU skip its next step if `total`, or one before it, is not finite."""
        if total.device.type == "cuda" and optimizer.defaults.get("fused"):
            found = (~torch.isfinite(total.detach())).float()
            before = getattr(optimizer, "found_inf", None)
            optimizer.found_inf = found if before is None else torch.maximum(before, found)

    def _judge(self, values: list[float], names: list[str], batch: Batch, turn: str, iteration: int) -> None:
        bad = {name: value for name, value in zip(names, values, strict=True) if not math.isfinite(value)}
        if not bad:
            return
        files = next((batch[key] for key in ("gt_path", "lq_path", "image_path") if key in batch), ["not known"])
        raise TrainingError(
            f"iteration {iteration}: {', '.join(f'{name} is {value}' for name, value in bad.items())}.\n"
            f"  first output that is not finite: {first_bad_module(self.objective, batch, turn)}\n"
            f"  batch: {', '.join(files)}\n"
            "  The checkpoints before this iteration are good: go on from them with --auto_resume and a lower rate, "
            "clip_norm, or precision fp32."
        )


@torch.no_grad()
def first_bad_module(objective: Objective, batch: Batch, turn: str) -> str:
    """Name of the first module, in the order of execution, that makes values that are not finite."""
    bad_inputs = [key for key, value in batch.items() if isinstance(value, Tensor) and not _finite(value)]
    if bad_inputs:
        return f"the batch itself ({', '.join(bad_inputs)})"
    parameters = [name for name, value in objective.named_parameters() if not _finite(value)]
    if parameters:
        return f"the parameter {parameters[0]} and {len(parameters) - 1} others, before the batch came"
    if any(map(is_sharded, objective.networks.values())):
        return "not looked for, as a sharded network computes in all processes or none; dist_params.strategy: ddp does"
    with _noting(objective) as found:
        objective.losses(batch, turn)
    return found[0] if found else "a loss, from finite outputs of every module"


@contextlib.contextmanager
def _noting(objective: Objective) -> Iterator[list[str]]:
    """Collects the names of modules whose outputs are not finite."""
    found: list[str] = []

    def hook(name: str) -> Any:
        def note(module: nn.Module, inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor) and not _finite(output):
                found.append(f"{name} ({type(module).__name__})")

        return note

    handles = [module.register_forward_hook(hook(name)) for name, module in objective.named_modules() if name]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


STEP_ADVICE = (
    "Lower batch_size_per_gpu (and raise train.accumulate by as much), or gt_size; or set "
    "train.activation_checkpointing or train.precision: bf16."
)
BUILDING_ADVICE = "The networks alone do not fit: take smaller ones, or split them with dist_params.strategy: fsdp."

_TOO_FEW = {
    "Expected more than 1 value per channel": "a batch norm of the network has one value for each channel, of which "
    "there is no variance: set batch_size_per_gpu to 2 or more, or take larger patches (gt_size).",
    "Expected more than 1 spatial element": "an instance norm of the network has a map of one pixel, of which there is "
    "no variance: take larger patches (gt_size).",
}
"""What to do where torch says that a norm cannot be computed."""


@contextlib.contextmanager
def failures_explained(advice: str = STEP_ADVICE) -> Iterator[None]:
    """Say what to change where memory or the images of a batch are not enough, or a process that loads data was killed.

    Args:
        advice: what to do about memory.

    Raises:
        TrainingError: instead of torch's error.
    """
    try:
        yield
    except MemoryError as error:
        raise TrainingError(f"out of memory. {advice}{_in_brackets(error)}") from error
    except ValueError as error:
        if way_out := next((advice for words, advice in _TOO_FEW.items() if str(error).startswith(words)), None):
            raise TrainingError(f"{way_out} (torch: {error})") from error
        raise
    except RuntimeError as error:
        message = str(error)
        if isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in message:
            where = "on the device" if isinstance(error, torch.OutOfMemoryError) else "on the processor"
            raise TrainingError(f"out of memory {where}. {advice}{_in_brackets(error)}") from error
        if message.startswith("DataLoader worker (pid"):
            raise TrainingError(
                "a process that loads data was killed, usually because memory ran out. Lower num_worker_per_gpu, or "
                f"give a container more shared memory (docker run --shm-size 8g).{_in_brackets(error)}"
            ) from error
        raise


def _in_brackets(error: BaseException) -> str:
    first = str(error).partition("\n")[0].rpartition("DefaultCPUAllocator: ")[2].split(". ")[0]
    return f" ({first})" if first else ""


def _finite(value: Tensor) -> bool:
    return not value.is_floating_point() or bool(torch.isfinite(local(value)).all())
