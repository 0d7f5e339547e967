"""Quality: the prediction of a quality model is compared with people's opinions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from restore.data.loading import Batch
from restore.errors import DataError, OptionsError, Problem
from restore.registry import LOSSES, OBJECTIVES
from restore.training.distribution import unwrapped
from restore.training.objectives.base import Objective, named

if TYPE_CHECKING:
    from restore.options import Options

__all__ = ["Quality"]


@OBJECTIVES.add("QualityModel")
class Quality(Objective):
    """Losses between the prediction of `network_g`, a quality model, and opinions.

    A batch holds `image`, for models with a reference `reference`, and what the model is trained on: `opinion` in
    [0, 1] or `distribution` over five levels.

    Args:
        networks: `{"g": quality model}`.
        losses: blocks of losses by option key; `quality_opt: {type: MSELoss}` is logged as `l_quality`.
    """

    judges = True

    def __init__(self, networks: Mapping[str, nn.Module], losses: Mapping[str, Mapping[str, Any]]):
        super().__init__(networks)
        model = networks["g"]
        self.needs = {"image": "image", model.target: "number"}
        if model.needs_reference:
            self.needs["reference"] = "image"
        if not losses:
            message = "missing: how predictions are compared with opinions: {type: MSELoss} or {type: OpinionLoss}."
            raise OptionsError([Problem("train.quality_opt", message)])
        self.criteria = nn.ModuleDict(
            {key.removesuffix("_opt"): LOSSES.build(block, path=f"train.{key}") for key, block in losses.items()}
        )

    @classmethod
    def from_options(
        cls, networks: Mapping[str, nn.Module], options: Options, frozen: Mapping[str, nn.Module]
    ) -> Quality:
        """Every loss that stands in the section `train`."""
        return cls(networks, options.train.losses())

    @classmethod
    def loss_problems(cls, losses: Mapping[str, Mapping[str, Any]]) -> list[Problem]:
        """As for every objective; losses of opinions stand under any key."""
        compared = {key: getattr(LOSSES.get(block["type"]), "compares", "images") for key, block in losses.items()}
        return super().loss_problems({key: block for key, block in losses.items() if compared[key] != "opinions"})

    def losses(self, batch: Batch, turn: str = "g") -> dict[str, Tensor]:
        """Every configured loss, computed in float32."""
        network = self.networks["g"]
        model = unwrapped(network)
        if model.needs_reference and "reference" not in batch:
            raise DataError(f"{type(model).__name__} needs references, and the dataset has none.")
        prediction = network(batch["image"], batch.get("reference")).float()
        target = batch[model.target].float()
        found: dict[str, Tensor] = {}
        for name, criterion in self.criteria.items():
            found |= named(name, criterion(prediction, target))
        return found
