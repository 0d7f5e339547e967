"""Detection: what a detector finds is compared with a set of boxes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from restore.data.fields import Fields
from restore.data.loading import Batch
from restore.errors import OptionsError, Problem
from restore.layers.box_overlaps import to_centres
from restore.losses.detection import Predictions, SetLoss, Wanted
from restore.registry import LOSSES, OBJECTIVES
from restore.training.distribution import unwrapped
from restore.training.objectives.base import Objective

if TYPE_CHECKING:
    from restore.options import Options

__all__ = ["Detection"]

PROPOSAL_COPIES = 4


@OBJECTIVES.add("DetectionModel")
class Detection(Objective):
    """The set loss of what `network_g`, a detector, says after each of its steps (auxiliary losses).

    A batch holds `image` and `boxes`. In the first step, where every position of the image proposes a box, each wanted
    one is given to four of them: they learn sooner, and what repeats is left to the steps after it.

    Args:
        networks: `{"g": detector}`.
        block: of the loss, which stands under `set_opt`.
    """

    needs: Fields = {"image": "image", "boxes": "boxes"}  # noqa: RUF012
    gives = "boxes"
    compares: ClassVar[Mapping[str, str]] = {"set_opt": "boxes"}

    def __init__(self, networks: Mapping[str, nn.Module], block: Mapping[str, Any]):
        super().__init__(networks)
        self.criterion: SetLoss = LOSSES.build(block, path="train.set_opt")

    @classmethod
    def from_options(
        cls, networks: Mapping[str, nn.Module], options: Options, frozen: Mapping[str, nn.Module]
    ) -> Detection:
        """The loss under `train.set_opt`; SetLoss as it is by itself where none is given."""
        return cls(networks, options.train.losses().get("set_opt", {"type": "SetLoss"}))

    @classmethod
    def problems(cls, options: Options) -> list[Problem]:
        """Also losses that nothing would ask."""
        others = [key for key in options.train.losses() if key != "set_opt"]
        message = "not read by DetectionModel, whose loss stands under set_opt: {type: SetLoss}. Remove it."
        return [*super().problems(options), *(Problem(f"train.{key}", message) for key in others)]

    def reading(self, dataset: Any) -> Any:
        """The training data, whose kinds must be those of the detector."""
        ours, theirs = list(unwrapped(self.networks["g"]).kinds), list(getattr(dataset, "kinds", []))
        if theirs and ours != theirs:
            message = f"boxes are of {', '.join(theirs)}, and the detector knows {', '.join(ours)}. Make them equal."
            raise OptionsError([Problem("datasets.train.kinds", message)])
        return dataset

    def losses(self, batch: Batch, turn: str = "g") -> dict[str, Tensor]:
        """`l_class`, `l_box` and `l_giou`, each the sum over all steps."""
        wanted = [Wanted(rows[:, 0].long(), to_centres(rows[:, 1:])) for rows in batch["boxes"]]
        steps = self.networks["g"](batch["image"])
        found: dict[str, Tensor] = {}
        for number, step in enumerate(steps):
            copies = 1 if number else PROPOSAL_COPIES
            for name, value in self.criterion(Predictions(*step), wanted, copies=copies).items():
                found[f"l_{name}"] = found.get(f"l_{name}", torch.zeros_like(value)) + value
        return found
