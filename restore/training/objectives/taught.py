"""Objectives whose network may have a teacher: a frozen network that it learns from beside its references.

    train:
      teacher: {model: swinir_light_x4, cache: answers, crops: 16}
      pixel_opt: {type: L1Loss}
      distill_opt: {type: SoftDistillationLoss}

Any number of distillation losses may stand under keys that end in `_opt`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from restore.data.loading import Batch
from restore.data.storage.answers import AnswerCache
from restore.errors import OptionsError, Problem
from restore.inference.precision import resolve_precision
from restore.losses.distillation import DistillationLoss
from restore.losses.diversity import DiversityLoss
from restore.networks.checkpoint import digest_of
from restore.registry import LOSSES
from restore.training.distribution import Processes
from restore.training.lessons import Lessons, Seen, require_module
from restore.training.objectives.base import Objective
from restore.training.preparation import Preparation

if TYPE_CHECKING:
    from restore.options import Options

__all__ = ["Taught"]


class Taught(Objective):
    """Base of objectives whose first network may learn from a teacher, too.

    Args:
        networks: the networks that learn.
        losses: blocks of losses by option key; those that compare with a teacher are taken out here.
        preparations: what happens to every batch before the network sees it.
        frozen: `{"teacher": network}`, or nothing.

    Attributes:
        inputs: the fields that network and teacher are given, in order; the teacher, those that a batch has.
        distilling: the blocks of the losses that compare with the teacher, by option key.
        aside: these, and the blocks of the losses that look at layers of the network itself.
        lessons: what is learnt from the teacher; None without one.
    """

    teaching = "optional"
    inputs: Sequence[str] = ()

    def __init__(
        self,
        networks: Mapping[str, nn.Module],
        losses: Mapping[str, Mapping[str, Any]],
        preparations: Sequence[Preparation] = (),
        *,
        frozen: Mapping[str, nn.Module] | None = None,
    ):
        super().__init__(networks, preparations, frozen=frozen)
        self.distilling = distilling = _comparing("teacher", losses)
        looking = _comparing("layers", losses)
        self.aside = {**distilling, **looking}
        self.lessons: Lessons | None = None
        self.looking: dict[str, DiversityLoss] = {
            key.removesuffix("_opt"): LOSSES.build(block, path=f"train.{key}") for key, block in looking.items()
        }
        for name, loss in self.looking.items():
            for argument, layer in loss.layers.items():
                require_module(networks["g"], layer, f"train.{name}_opt.{argument}")
        if distilling and "teacher" not in self.frozen:
            raise OptionsError([_no_teacher(key, block) for key, block in distilling.items()])
        if distilling:
            built: dict[str, DistillationLoss] = {
                key.removesuffix("_opt"): LOSSES.build(block, path=f"train.{key}") for key, block in distilling.items()
            }
            self.lessons = Lessons(built, self.frozen["teacher"], self.taught)
            student = networks["g"]
            example = self.example(next(student.parameters()).device)
            self.frozen.to(example[0].device)
            self.heads.update(self.lessons.heads(student, example))

    @abstractmethod
    def taught(self, *inputs: Tensor) -> Tensor:
        """What the teacher answers, in the form in which the network answers."""

    @abstractmethod
    def example(self, device: torch.device) -> list[Tensor]:
        """Something that the network can be given."""

    @classmethod
    def problems(cls, options: Options) -> list[Problem]:
        """Also whether a teacher has something to teach, and whether its answers can be kept."""
        teacher, distilling = options.train.teacher, _comparing("teacher", options.train.losses())
        problems = super().problems(options)
        if cls.teaching == "none":
            return problems
        if teacher is None:
            problems += [_no_teacher(key, block) for key, block in distilling.items()]
        elif not distilling:
            message = "missing: how the network is compared with its teacher, such as {type: SoftDistillationLoss}."
            problems.append(Problem("train.distill_opt", message))
        if teacher and teacher.cache and not problems and cls.preparations_of(options):
            message = (
                "answers are kept for images as the data give them, and here they are degraded or blended afterwards: "
                "leave out the cache, or degrade in the data (DegradedImageDataset)."
            )
            problems.append(Problem("train.teacher.cache", message))
        return problems

    @classmethod
    def loss_problems(cls, losses: Mapping[str, Mapping[str, Any]]) -> list[Problem]:
        """As for every objective; losses that compare with a teacher, or look at layers, stand under any key."""
        if cls.teaching == "none":
            return super().loss_problems(losses)
        looking = _comparing("layers", losses)
        aside = {**_comparing("teacher", losses), **looking}
        problems = super().loss_problems({key: block for key, block in losses.items() if key not in aside})
        if looking and len(looking) == len(losses):
            message = "keeps places of an image apart and teaches nothing else: give another loss beside it."
            problems += [Problem(f"train.{key}", message) for key in looking]
        return problems

    def keep_answers(self, options: Options) -> None:
        """Keep what the teacher answers where `train.teacher.cache` says, and compute it as `train.precision` says."""
        teacher = options.train.teacher
        if self.lessons is None or teacher is None:
            return
        network = self.frozen["teacher"]
        survives = network.spec.precisions
        wanted = options.train.precision if options.train.precision in ("auto", *survives) else "fp32"
        device = next(network.parameters()).device
        self.lessons.dtype = resolve_precision(wanted, device, survives)
        if teacher.cache:
            precision = str(self.lessons.dtype).removeprefix("torch.")
            about = {"model": teacher.model, "network": type(network).__name__, "precision": precision}
            name = f"{digest_of(network)[:16]}-{precision}"
            self.lessons.cache = AnswerCache(Path(teacher.cache), name, about=about)

    def reading(self, dataset: Any) -> Any:
        """The training data, with what the cache knows of each sample."""
        return dataset if self.lessons is None else self.lessons.reading(dataset, self.inputs)

    def share(self, processes: Processes, *, strategy: Literal["ddp", "fsdp"], find_unused_parameters: bool) -> None:
        """Also lets every process keep answers in a file of its own."""
        if self.lessons is not None and self.lessons.cache is not None:
            self.lessons.cache.write_as(processes.rank)
        super().share(processes, strategy=strategy, find_unused_parameters=find_unused_parameters)

    def lesson_losses(self, seen: Seen, batch: Batch) -> dict[str, Tensor]:
        """What the network loses in comparison with its teacher, and by its own layers; nothing without such losses."""
        found = {} if self.lessons is None else self.lessons.losses(seen, self.heads, batch)
        for name, loss in self.looking.items():
            with torch.autocast(seen.answer.device.type, enabled=False):
                found[f"l_{name}"] = loss(seen.layers)
        return found

    @property
    def watched_layers(self) -> list[str]:
        """The modules of the network that a loss looks at."""
        own = [layer for loss in self.looking.values() for layer in loss.layers.values()]
        return own if self.lessons is None else [*self.lessons.watched_layers, *own]


def _comparing(what: str, losses: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """The blocks of losses that compare `what`."""
    kinds = {key: getattr(LOSSES.get(block["type"]), "compares", "images") for key, block in losses.items()}
    return {key: block for key, block in losses.items() if kinds[key] == what}


def _no_teacher(key: str, block: Mapping[str, Any]) -> Problem:
    message = f"{block['type']} compares with a teacher: name one in train.teacher, {{model: NAME or FILE}}."
    return Problem(f"train.{key}", message)
