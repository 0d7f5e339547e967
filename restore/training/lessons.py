"""What a network learns from its teacher: the questions, the answers, which a cache may know, and the losses.

Answers are compared as they are kept, whether they come from a cache or not, so a cache changes nothing but the time:
images in float16, or rounded to 8 bits where a loss wants labels; features in float16; logits and scores in float32.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from restore.data.answered import AnsweredDataset
from restore.data.loading import Batch
from restore.data.storage.answers import AnswerCache
from restore.errors import ImageError, OptionsError, Problem, nearest
from restore.inference.precision import arithmetic
from restore.losses.distillation import DistillationLoss, FeatureLoss, as_map
from restore.training.distribution import unwrapped

__all__ = ["Lessons", "Seen", "require_module", "watched"]

Layers = Mapping[str, Tensor]
Speak = Callable[..., Tensor]

_LEVELS = 5


class Seen(NamedTuple):
    """One forward pass of the network that learns.

    Attributes:
        inputs: what it was given.
        answer: what it made of that.
        layers: what those of its modules gave that a loss looks at.
    """

    inputs: Sequence[Tensor]
    answer: Tensor
    layers: Layers


class Lessons:
    """The losses between a network and its teacher.

    Args:
        losses: by the name that they are logged under.
        teacher: frozen.
        speak: what the teacher answers to inputs, in the form in which the network answers.
        cache: what the teacher has answered before; None to ask it in every step.
        dtype: arithmetic that the teacher computes in.
    """

    def __init__(
        self,
        losses: Mapping[str, DistillationLoss],
        teacher: nn.Module,
        speak: Speak,
        *,
        cache: AnswerCache | None = None,
        dtype: torch.dtype = torch.float32,
    ):
        self.criteria = dict(losses)
        self.teacher = teacher
        self.speak = speak
        self.cache = cache
        self.dtype = dtype
        features = [loss for loss in losses.values() if isinstance(loss, FeatureLoss)]
        self.watched_layers = [loss.student for loss in features]
        self._teacher_layers = [loss.teacher for loss in features]

    def heads(self, student: nn.Module, inputs: Sequence[Tensor]) -> dict[str, nn.Module]:
        """What learns with the network so that its features can be compared, by the name of the loss.

        Args:
            student: the network that learns; it is looked at in evaluation mode.
            inputs: an example of what it is given.

        Raises:
            OptionsError: the network or its teacher has no such module, or it gives no map.
        """
        features = {name: loss for name, loss in self.criteria.items() if isinstance(loss, FeatureLoss)}
        if not features:
            return {}
        for name, loss in features.items():
            require_module(student, loss.student, f"train.{name}_opt.student")
            require_module(self.teacher, loss.teacher, f"train.{name}_opt.teacher")
        training = student.training
        with torch.no_grad(), watched(student.eval(), self.watched_layers) as ours:
            student(*inputs)
        student.train(training)
        with torch.no_grad(), watched(self.teacher, self._teacher_layers) as theirs:
            self.speak(*inputs)
        found: dict[str, nn.Module] = {}
        for name, loss in features.items():
            try:
                maps = [_map(layers, each, layout) for layers, each, layout in _sides(loss, ours, theirs)]
            except ImageError as error:
                raise OptionsError([Problem(f"train.{name}_opt", str(error))]) from error
            head = loss.head(*(each.shape[1] for each in maps))
            if head is not None:
                found[name] = head
        return found

    def reading(self, dataset: Any, inputs: Sequence[str]) -> Any:
        """Training data whose samples come with what the cache knows.

        Args:
            dataset: the training data.
            inputs: the fields that the teacher is given, in order.
        """
        return dataset if self.cache is None else AnsweredDataset(dataset, self.cache, inputs, self._parts)

    def losses(self, seen: Seen, heads: Mapping[str, nn.Module], batch: Batch) -> dict[str, Tensor]:
        """Every loss, by its name in the log."""
        taught = self._answers(seen.inputs, batch)
        found: dict[str, Tensor] = {}
        for name, loss in self.criteria.items():
            if isinstance(loss, FeatureLoss):
                theirs = {loss.teacher: taught[_part(loss)]}
                ours, teacher = (_map(*side) for side in _sides(loss, seen.layers, theirs))
                found[f"l_{name}"] = loss(heads[name](ours) if name in heads else ours, teacher)
            else:
                found[f"l_{name}"] = loss(seen.answer, taught[_part(loss)])
        return found

    @property
    def _parts(self) -> list[str]:
        return sorted({_part(loss) for loss in self.criteria.values()})

    def _answers(self, inputs: Sequence[Tensor], batch: Batch) -> dict[str, Tensor]:
        """The parts of the teacher's answers to a batch, ready to be compared.

        Where one answer is not known, all are asked for: an answer does not depend then on what else was known.
        """
        known = batch.get("answer")
        if isinstance(known, Mapping):
            return {part: _compared(value.to(inputs[0].device, non_blocking=True)) for part, value in known.items()}
        asked = self._ask(inputs)
        if self.cache is not None and known is not None:
            host = {part: value.cpu() for part, value in asked.items()}
            new = [number for number, is_known in enumerate(known) if not is_known]
            self.cache.keep(
                {batch["question"][number]: {part: value[number] for part, value in host.items()} for number in new}
            )
        return {part: _compared(value) for part, value in asked.items()}

    @torch.no_grad()
    def _ask(self, inputs: Sequence[Tensor]) -> dict[str, Tensor]:
        """The parts of the teacher's answers, as they are kept."""
        device = inputs[0].device
        with (
            torch.autocast(device.type, enabled=False),
            arithmetic(device, self.dtype),
            watched(self.teacher, self._teacher_layers) as layers,
        ):
            answer = self.speak(*inputs).float()
        is_image = answer.ndim == 4
        found = {"answer": answer.half() if is_image else answer, "rounded": _rounded(answer)}
        found |= {f"layer {name}": value.half() for name, value in layers.items()}
        return {part: found[part].contiguous() for part in self._parts}


@contextlib.contextmanager
def watched(network: nn.Module, names: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """Collects what modules of a network give in the forward passes inside, by their dotted names."""
    found: dict[str, Tensor] = {}

    def hook(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def note(module: nn.Module, inputs: Any, output: Any) -> None:
            found[name] = output

        return note

    modules = {name: unwrapped(network).get_submodule(name) for name in names}
    handles = [module.register_forward_hook(hook(name)) for name, module in modules.items()]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _part(loss: DistillationLoss) -> str:
    """What a loss asks of the teacher, as it is called in the cache."""
    return f"layer {loss.teacher}" if isinstance(loss, FeatureLoss) else loss.asks


def _sides(loss: FeatureLoss, ours: Layers, theirs: Layers) -> list[tuple[Layers, str, Any]]:
    return [(ours, loss.student, loss.layouts[0]), (theirs, loss.teacher, loss.layouts[1])]


def _map(layers: Layers, name: str, layout: Any) -> Tensor:
    value = layers.get(name)
    if not isinstance(value, Tensor):
        raise ImageError(f"'{name}' gives {type(value).__name__}, not one tensor: name a module inside it, or another.")
    return as_map(value, layout, name)


def require_module(network: nn.Module, name: str, path: str) -> None:
    """Refuse the name of a module that a network does not have.

    Raises:
        OptionsError: names the nearest, and those that there are.
    """
    names = [each for each, _ in network.named_modules() if each]
    if name not in names:
        top = [each for each, _ in network.named_children()]
        message = f"{type(network).__name__} has no module '{name}'.{nearest(name, names)} It has: {', '.join(top)}."
        raise OptionsError([Problem(path, message)])


def _rounded(answer: Tensor) -> Tensor:
    """An answer as a label: an image in 8 bits, a score at the nearest of five levels; logits have their likeliest."""
    if answer.ndim == 4:
        return (answer.clamp(0, 1) * 255).round().to(torch.uint8)
    return (answer * (_LEVELS - 1)).round() / (_LEVELS - 1) if answer.ndim == 1 else answer


def _compared(kept: Tensor) -> Tensor:
    return kept.float() / 255 if kept.dtype is torch.uint8 else kept.float()
