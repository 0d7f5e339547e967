"""What the training loop asks of a kind of learning."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from restore.data.loading import Batch
from restore.errors import ImageError, OptionsError, Problem
from restore.registry import LOSSES
from restore.training.distribution import unwrapped
from restore.training.mixing import Mixing
from restore.training.preparation import Preparation

if TYPE_CHECKING:
    from restore.options import Options

__all__ = ["Objective", "compared", "named"]

_COMPARED = {
    "images": "images",
    "scores": "a discriminator's scores (train.gan_opt of SRGANModel, ESRGANModel and RealESRGANModel)",
    "features": "a discriminator's features (train.feature_matching_opt of the same)",
    "patches": "features of patches (train.contrastive_opt of IPTModel)",
    "opinions": "opinions (QualityModel)",
}


class Objective(nn.Module, ABC):
    """Turns batches into losses. Subclasses say which networks learn, in which turns, from what.

    Attributes:
        networks: the networks that learn, by the letter that BasicSR's options and files use (`g`, `d`). The first is
            the one that is averaged, validated and shipped.
        preparations: what happens to every batch before the turns, in order.
        judges: whether the networks judge images (they are quality models) instead of restoring them.
        leaves_parameters_out: whether a batch may leave parameters without a gradient, which processes that average
            their gradients must know.
        compares: what the loss under an option key is given, where that is not images (see `restore.losses`).
    """

    judges: ClassVar[bool] = False
    leaves_parameters_out: ClassVar[bool] = False
    compares: ClassVar[Mapping[str, str]] = {}

    def __init__(self, networks: Mapping[str, nn.Module], preparations: Sequence[Preparation] = ()):
        super().__init__()
        self.networks = nn.ModuleDict(networks)
        self.preparations = list(preparations)

    @classmethod
    @abstractmethod
    def from_options(cls, networks: Mapping[str, nn.Module], options: Options) -> Objective:
        """The objective as an option file configures it."""

    @classmethod
    def problems(cls, options: Options) -> list[Problem]:
        """The mistakes in an option file that only this kind of learning can tell; asked when the file is read."""
        problems = cls.loss_problems(options.train.losses())
        try:
            cls.preparations_of(options)
        except OptionsError as error:
            problems += error.problems
        return problems

    @classmethod
    def loss_problems(cls, losses: Mapping[str, Mapping[str, Any]]) -> list[Problem]:
        """What is wrong with losses, each of them right by itself, where they stand: blocks by option key."""
        problems = []
        for key, block in losses.items():
            wanted, given = cls.compares.get(key, "images"), getattr(LOSSES.get(block["type"]), "compares", "images")
            if given != wanted:
                message = f"{block['type']} compares {_COMPARED[given]}, not {_COMPARED[wanted]}."
                problems.append(Problem(f"train.{key}.type", message))
            if block.get("reduction") == "none":
                message = "none leaves a number for every pixel, and training needs a single one: take mean or sum."
                problems.append(Problem(f"train.{key}.reduction", message))
        return problems

    @classmethod
    def preparations_of(cls, options: Options) -> list[Preparation]:
        """What an option file wants to happen to every batch: here the blending of images."""
        mixing = options.train.mixing
        blends = mixing.mixup or mixing.cutmix or mixing.cutblur
        return [Mixing(**dict(mixing))] if blends else []

    def follow(self, averaged: nn.Module) -> None:
        """Told once where the moving average of the first network is."""

    def turns(self, iteration: int) -> Sequence[str]:
        """Which networks learn in iteration `iteration` (counted from 1), in order."""
        return list(self.networks)

    def prepare(self, batch: Batch) -> Batch:
        """The batch on the device as the networks are to see it."""
        for preparation in self.preparations:
            batch = preparation(batch)
        return batch

    def running_state(self) -> dict[str, Any]:
        """What later batches depend on besides the weights: plain values and tensors."""
        return {type(preparation).__name__: preparation.state_dict() for preparation in self.preparations}

    def load_running_state(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Take back what `running_state` gave."""
        for preparation in self.preparations:
            preparation.load_state_dict(state.get(type(preparation).__name__, {}), device)

    @property
    def white(self) -> float:
        """The largest value of the images that the first network takes and gives."""
        spec = getattr(unwrapped(self.networks["g"]), "spec", None)
        return spec.value_range if spec else 1.0

    def restored(self, lq_BCHW: Tensor, **how: Any) -> Tensor:
        """What the first network makes of images in [0, 1], in float32 and in the same range, whatever range it has.

        Args:
            lq_BCHW: the images.
            how: further arguments of the network.
        """
        return self.networks["g"](lq_BCHW * self.white, **how).float() / self.white

    @abstractmethod
    def losses(self, batch: Batch, turn: str) -> dict[str, Tensor]:
        """Scalars for network `turn`: those named `l_...` are summed and minimised, the others are only logged."""


def compared(name: str, criterion: nn.Module, restored: Tensor, reference: Tensor) -> dict[str, Tensor]:
    """What `criterion` says of images, as `named` has it.

    Raises:
        OptionsError: the training patches are too small for it.
    """
    try:
        return named(name, criterion(restored, reference))
    except ImageError as error:
        height, width = restored.shape[-2:]
        message = f"patches of {height}x{width} px are too small for the loss l_{name}: {error}"
        raise OptionsError([Problem("datasets.train.gt_size", message)]) from error


def named(name: str, value: Tensor | Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The losses of one criterion as they are logged: `l_NAME`, or its own names where it returns several."""
    if isinstance(value, Mapping):
        return {f"l_{part}": loss for part, loss in value.items()}
    return {f"l_{name}": value}
