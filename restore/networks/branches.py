"""One task of a network that has several: seen as a network of its own, or taken out of a weights file.

What a network of several tasks offers is in `restore.networks.base`; its `forward` takes the number of the `task`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from restore.errors import CheckpointError, OptionsError, nearest
from restore.networks.base import Network
from restore.networks.checkpoint import infer
from restore.networks.spec import ImageSpec
from restore.registry import NETWORKS

__all__ = ["Branch", "branch_weights", "task_number"]


class Branch(Network):
    """A network of several tasks as a network of one of them; the weights are shared, not copied.

    Args:
        network: the network.
        task: number of the task.
    """

    def __init__(self, network: Network, task: int):
        super().__init__()
        self.network, self.task = network, task

    @property
    def spec(self) -> ImageSpec:
        """What images the task takes and gives."""
        return self.network.task_spec(self.task)

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """Restore images by this task's head and tail."""
        return self.network(x_BCHW, task=self.task)


def task_number(tasks: Sequence[str], task: int | str) -> int:
    """The number of a task that is given by its name or its number.

    Raises:
        OptionsError: there is no such task; the message lists those that there are.
    """
    if task in tasks:
        return list(tasks).index(str(task))
    if str(task).isdecimal() and int(task) < len(tasks):
        return int(task)
    known = ", ".join(f"{name} ({number})" for number, name in enumerate(tasks)) or "none, for it knows only one thing"
    raise OptionsError(f"the network has no task '{task}'.{nearest(str(task), tasks)} It has: {known}.")


def branch_weights(
    state: Mapping[str, torch.Tensor], task: int | str, *, source: str = "weights"
) -> dict[str, torch.Tensor]:
    """The weights of one task, fit for a network of that task alone, out of those of a network of several.

    Raises:
        CheckpointError: the weights are of a network that has no tasks to choose from.
        OptionsError: they have no such task.
    """
    block = infer(state, source=source)
    network: Any = NETWORKS.get(block["type"])
    tasks = network.task_names(block)
    if not tasks:
        raise CheckpointError(f"{source}: weights of {block['type']} have no tasks to choose from; '{task}' was asked.")
    own: dict[str, torch.Tensor] = network.branch(state, block, task_number(tasks, task))
    return own
