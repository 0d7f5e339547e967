"""What the training loop asks of a kind of learning."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from restore.data.fields import Fields
from restore.data.loading import Batch
from restore.errors import ImageError, OptionsError, Problem
from restore.networks import Network
from restore.registry import LOSSES, OBJECTIVES
from restore.training.distribution import Processes, unwrapped
from restore.training.followers import Follower
from restore.training.mixing import Mixing
from restore.training.preparation import Preparation

if TYPE_CHECKING:
    from restore.options import Options

__all__ = ["AVERAGE", "Objective", "compared", "named", "restored_by"]

AVERAGE = "average"

_COMPARED = {
    "images": "images",
    "scores": "a discriminator's scores (train.gan_opt of SRGANModel, ESRGANModel and RealESRGANModel)",
    "features": "a discriminator's features (train.feature_matching_opt of the same)",
    "patches": "features of patches (train.contrastive_opt of IPTModel)",
    "instances": "an image with its number (train.instance_opt of InstanceDiscrimination)",
    "layers": "layers of the network itself (train.diversity_opt of SRModel and QualityModel)",
    "masked": "hidden patches (train.masked_opt of MaskedPretraining)",
    "opinions": "opinions (QualityModel)",
    "boxes": "boxes (DetectionModel)",
    "teacher": "a teacher's answers (train.distill_opt of SRModel, RealESRNetModel and QualityModel)",
}


class Objective(nn.Module, ABC):
    """Turns batches into losses. Subclasses say which networks learn, in which turns, from what.

    Everything below is part of a checkpoint, so that a resumed run goes on bit by bit: `networks` have files of their
    own, `heads` and `followers` are in the training state, which also knows whether `frozen` networks have changed.

    Args:
        networks: see below.
        preparations: see below.
        frozen: see below; they are put into evaluation mode, and their parameters need no gradients.
        heads: see below.
        followers: see below.

    Attributes:
        networks: the networks that learn, by the letter that BasicSR's options and files use (`g`, `d`). The first is
            the one that is averaged, validated and shipped.
        frozen: networks that do not learn, such as teachers, by name: always in evaluation mode, never shipped.
        heads: modules that learn with the first network, by its optimizer, and are not shipped, by name.
        followers: momentum copies of networks or heads, by name; the average of the first network, which is validated
            and shipped, is called `average`.
        preparations: what happens to every batch before the turns, in order.
        needs: the fields that `losses` reads in a prepared batch (see `restore.data.fields`).
        gives: what the networks make of images: restored "images", "opinions" (quality models), or "boxes" (detectors).
        teaching: whether `train.teacher` names a frozen network, called `teacher`: it must, may or must not.
        leaves_parameters_out: whether a batch may leave parameters without a gradient, which processes that average
            their gradients must know.
        compares: what the loss under an option key is given, where that is not images (see `restore.losses`).
    """

    needs: Fields = {}  # noqa: RUF012 - replaced, never changed
    gives: ClassVar[Literal["images", "opinions", "boxes"]] = "images"
    teaching: ClassVar[Literal["required", "optional", "none"]] = "none"
    leaves_parameters_out: ClassVar[bool] = False
    compares: ClassVar[Mapping[str, str]] = {}

    def __init__(
        self,
        networks: Mapping[str, nn.Module],
        preparations: Sequence[Preparation] = (),
        *,
        frozen: Mapping[str, nn.Module] | None = None,
        heads: Mapping[str, nn.Module] | None = None,
        followers: Mapping[str, Follower] | None = None,
    ):
        super().__init__()
        self.networks = nn.ModuleDict(networks)
        self.frozen = nn.ModuleDict(frozen or {}).eval().requires_grad_(False)
        self.heads = nn.ModuleDict(heads or {})
        self.followers = nn.ModuleDict(followers or {})
        self.preparations = list(preparations)

    @classmethod
    @abstractmethod
    def from_options(
        cls, networks: Mapping[str, nn.Module], options: Options, frozen: Mapping[str, nn.Module]
    ) -> Objective:
        """The objective as an option file configures it.

        Args:
            networks: those of the option file, by their letter.
            options: the option file.
            frozen: the networks that `teachers` names.
        """

    @classmethod
    def teachers(cls, options: Options) -> dict[str, str]:
        """The frozen networks that an option file asks for: a model's name or a weights file for each name."""
        teacher = options.train.teacher
        return {"teacher": teacher.model} if teacher else {}

    @classmethod
    def problems(cls, options: Options) -> list[Problem]:
        """The mistakes in an option file that only this kind of learning can tell; asked when the file is read."""
        problems = cls.loss_problems(options.train.losses())
        if options.train.teacher and cls.teaching == "none":
            others = ", ".join(name for name in OBJECTIVES if OBJECTIVES.get(name).teaching != "none") or "none"
            message = f"model_type {options.model_type} does not learn from a teacher. Those that do: {others}."
            problems.append(Problem("train.teacher", message))
        if not options.train.teacher and cls.teaching == "required":
            message = f"missing: model_type {options.model_type} learns from a teacher, {{model: NAME or FILE}}."
            problems.append(Problem("train.teacher", message))
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

    def keep_average(self, decay: float, *, warmup: bool = False, power: float | None = None) -> None:
        """Let the follower `average` follow the first network from here on; see `Follower`."""
        network = unwrapped(next(iter(self.networks.values())))
        self.followers[AVERAGE] = Follower(network, decay, warmup=warmup, power=power)

    @property
    def average(self) -> Follower | None:
        """The average of the first network, if one is kept."""
        return dict(self.followers.items()).get(AVERAGE)

    def trained(self, turn: str) -> list[nn.Module]:
        """What learns in the turn of a network: the network, and with the first one the heads."""
        heads = self.heads.values() if turn == next(iter(self.networks)) else ()
        return [self.networks[turn], *heads]

    def meet(self, dataset: Any) -> None:
        """Look at the training data before anything that learns is given to an optimizer: heads may depend on them."""

    def reading(self, dataset: Any) -> Any:
        """The training data as this objective wants to have it read."""
        return dataset

    def train(self, mode: bool = True) -> Objective:
        """Training or evaluation mode for what learns; the rest stays in evaluation mode."""
        super().train(mode)
        self.frozen.eval()
        return self

    def share(self, processes: Processes, *, strategy: Literal["ddp", "fsdp"], find_unused_parameters: bool) -> None:
        """Let several processes train what learns together; see `Processes.share`."""
        for modules in (self.heads, self.followers):
            processes.align(modules)
        for modules in (self.networks, self.heads):
            for name, module in modules.items():
                modules[name] = processes.share(
                    module, strategy=strategy, find_unused_parameters=find_unused_parameters
                )
        if strategy == "fsdp":
            for follower in self.followers.values():  # split like what it follows
                processes.share(follower.network, strategy=strategy)

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
        """The largest value of the images that the first network takes and gives; 1 where it does not say."""
        return _white(self.networks["g"])

    def restored(self, lq_BCHW: Tensor, **how: Any) -> Tensor:
        """What the first network makes of images in [0, 1]; see `restored_by`."""
        return restored_by(self.networks["g"], lq_BCHW, **how)

    @abstractmethod
    def losses(self, batch: Batch, turn: str) -> dict[str, Tensor]:
        """Scalars for network `turn`: those named `l_...` are summed and minimised, the others are only logged."""


def restored_by(network: nn.Module, lq_BCHW: Tensor, **how: Any) -> Tensor:
    """What a network makes of images in [0, 1], in float32 and in the same range, whatever range it has.

    Args:
        network: of an objective, or a follower of one.
        lq_BCHW: the images.
        how: further arguments of the network.
    """
    white = _white(network)
    return network(lq_BCHW * white, **how).float() / white


def _white(network: nn.Module) -> float:
    inner = network.network if isinstance(network, Follower) else unwrapped(network)
    return inner.spec.value_range if isinstance(inner, Network) else 1.0


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
