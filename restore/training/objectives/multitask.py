"""Several tasks in one training, each with a head and a tail of its own: how IPT and EDT are pre-trained.

    model_type: EDTModel       # or IPTModel, which adds train.contrastive_opt
    datasets: {train: {type: MultiTaskDataset, tasks: {sr_x2: {type: DownsampledImageDataset, scale: 2, ...}, ...}}}
    network_g: {type: EDT, scales: [2, 3], ...}

A batch is of one task (see `MultiTaskDataset`): the heads, tails and queries of the others are not touched by it. What
every task loses is logged under its name, `l_pix_sr_x2`. Other datasets train the first task alone, so that fine-tuning
needs no other model type.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor, nn

from restore.data.loading import Batch
from restore.errors import OptionsError, Problem
from restore.networks.branches import task_number
from restore.registry import LOSSES, OBJECTIVES
from restore.training.distribution import unwrapped
from restore.training.objectives.base import compared
from restore.training.objectives.restoration import Restoration
from restore.training.preparation import Preparation

if TYPE_CHECKING:
    from restore.options import Options

__all__ = ["ContrastivePretraining", "MultiTask", "network_tasks", "validated_task"]


@OBJECTIVES.add("EDTModel", "MultiTaskModel")
class MultiTask(Restoration):
    """Losses between `network(lq, task)` and `gt`, for the task that the batch says.

    Args:
        networks: `{"g": network of several tasks}`.
        losses: blocks of losses by option key.
        tasks: the number that each task of the batches has in the network.
        preparations: what happens to every batch before the network sees it.
    """

    teaching = "none"
    leaves_parameters_out = True

    def __init__(
        self,
        networks: Mapping[str, nn.Module],
        losses: Mapping[str, Mapping[str, Any]],
        *,
        tasks: Mapping[str, int] | None = None,
        preparations: Sequence[Preparation] = (),
    ):
        super().__init__(networks, losses, preparations=preparations)
        self.tasks = dict(tasks or {})

    @classmethod
    def from_options(
        cls, networks: Mapping[str, nn.Module], options: Options, frozen: Mapping[str, nn.Module]
    ) -> MultiTask:
        """The losses of the section `train`, and the tasks of the training data."""
        tasks = network_tasks(unwrapped(networks["g"]), options)
        return cls(networks, options.train.losses(), tasks=tasks, preparations=cls.preparations_of(options))

    def losses(self, batch: Batch, turn: str = "g") -> dict[str, Tensor]:
        """Every configured loss of the batch's task, computed in float32."""
        return self._pixel_losses(self.restored(batch["lq"], task=self._number(batch)), batch)

    def _number(self, batch: Batch) -> int:
        return self.tasks[batch["task"][0]] if "task" in batch else 0

    def _pixel_losses(self, restored: Tensor, batch: Batch) -> dict[str, Tensor]:
        task = f"_{batch['task'][0]}" if "task" in batch else ""
        found: dict[str, Tensor] = {}
        for name, criterion in self.criteria.items():
            losses = compared(name, criterion, restored, batch["gt"])
            found |= {f"{key}{task}": value for key, value in losses.items()}
        return found


@OBJECTIVES.add("IPTModel")
class ContrastivePretraining(MultiTask):
    """As `MultiTask`, and optionally a contrastive loss on what the decoder makes of the patches (`l_contrastive`).

    Patches of one image attract each other, those of different images repel (Chen et al. 2021, arXiv 2012.00364,
    section 3.2). The images are those of this process's batch.

    Args:
        networks: `{"g": IPT}`: a network whose `forward` has `return_features`.
        losses: blocks of losses by option key; `contrastive_opt: {type: PatchContrastiveLoss}` may be among them.
        tasks: the number that each task of the batches has in the network.
        preparations: what happens to every batch before the network sees it.
    """

    compares: ClassVar[Mapping[str, str]] = {"contrastive_opt": "patches"}

    def __init__(
        self,
        networks: Mapping[str, nn.Module],
        losses: Mapping[str, Mapping[str, Any]],
        *,
        tasks: Mapping[str, int] | None = None,
        preparations: Sequence[Preparation] = (),
    ):
        contrastive = losses.get("contrastive_opt")
        pixel = {key: block for key, block in losses.items() if key != "contrastive_opt"}
        super().__init__(networks, pixel, tasks=tasks, preparations=preparations)
        self.contrastive = LOSSES.build(contrastive, path="train.contrastive_opt") if contrastive else None

    def losses(self, batch: Batch, turn: str = "g") -> dict[str, Tensor]:
        """Every configured loss of the batch's task, and the contrastive one."""
        if self.contrastive is None:
            return super().losses(batch, turn)
        lq_BCHW, white = batch["lq"], self.white
        restored, features = self.networks["g"](lq_BCHW * white, task=self._number(batch), return_features=True)
        patches_BNC = features.unflatten(0, (len(lq_BCHW), -1)).flatten(1, 2)  # all windows of an image together
        found = self._pixel_losses(restored.float() / white, batch)
        return {**found, "l_contrastive": self.contrastive(patches_BNC)}


def network_tasks(network: nn.Module, options: Options) -> dict[str, int]:
    """The number in the network of each task of the training data, by its name there.

    Tasks with names of the network's own are matched by these; otherwise there must be as many as the network has, in
    its order (IPT's weights do not say what its tasks of scale 1 are).

    Raises:
        OptionsError: names and order both leave it open which task is which, or one has another scale in the network.
    """
    dataset = options.datasets["train"]
    blocks, own = dataset.block.get("tasks", {}), list(network.tasks)
    if set(blocks) <= set(own):
        numbers = {name: own.index(name) for name in blocks}
    elif len(blocks) == len(own):
        numbers = {name: number for number, name in enumerate(blocks)}
    else:
        message = f"{', '.join(blocks)} are neither names of the network's tasks ({', '.join(own)}) nor as many."
        raise OptionsError([Problem("datasets.train.tasks", message)])
    problems = []
    for name, number in numbers.items():
        scale, wanted = blocks[name].get("scale", dataset.scale), network.task_spec(number).scale
        if scale != wanted:
            message = f"{scale}, but task {number} of the network ({own[number]}) enlarges by {wanted}."
            problems.append(Problem(f"datasets.train.tasks.{name}.scale", message))
    if problems:
        raise OptionsError(problems)
    return numbers


def validated_task(network: nn.Module, options: Options, key: str) -> int | None:
    """The number of the task that a validation dataset is for; None for a network that has no choice.

    Raises:
        OptionsError: the network has several tasks and the dataset names none, or one that does not exist.
    """
    own, task = list(network.tasks), options.datasets[key].task
    if task is None:
        if len(own) > 1:
            message = f"missing: network_g has several tasks; name the one to validate: {', '.join(own)}."
            raise OptionsError([Problem(f"datasets.{key}.task", message)])
        return None
    trained = network_tasks(network, options) if "train" in options.datasets else {}
    if task in trained:
        return trained[task]
    try:
        return task_number(own, task)
    except OptionsError as error:
        raise OptionsError([Problem(f"datasets.{key}.task", str(error))]) from None
