"""Quality: the prediction of a quality model is compared with people's opinions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from restore.data.loading import Batch
from restore.errors import DataError, OptionsError, Problem
from restore.losses.opinion import PatchOpinionLoss, level_logits, local_opinions
from restore.registry import LOSSES, OBJECTIVES
from restore.training.distribution import unwrapped
from restore.training.lessons import Seen, watched
from restore.training.objectives.base import named
from restore.training.objectives.taught import Taught

if TYPE_CHECKING:
    from restore.options import Options

__all__ = ["Quality"]

_EXAMPLE_PX = 64


@OBJECTIVES.add("QualityModel")
class Quality(Taught):
    """Losses between the prediction of `network_g`, a quality model, and opinions, or those of a teacher.

    A batch holds `image`, for models with a reference `reference`, and what the model is trained on: `opinion` in
    [0, 1] or `distribution` over five levels. A teacher with a reference may teach a model without.

    Args:
        networks: `{"g": quality model}`.
        losses: blocks of losses by option key; `quality_opt: {type: MSELoss}` is logged as `l_quality`.
        frozen: `{"teacher": quality model}`, or nothing.
    """

    gives = "opinions"
    inputs = ("image", "reference")

    def __init__(
        self,
        networks: Mapping[str, nn.Module],
        losses: Mapping[str, Mapping[str, Any]],
        *,
        frozen: Mapping[str, nn.Module] | None = None,
    ):
        super().__init__(networks, losses, frozen=frozen)
        if not losses:
            message = "missing: how predictions are compared with opinions: {type: MSELoss} or {type: OpinionLoss}."
            raise OptionsError([Problem("train.quality_opt", message)])
        self.criteria = nn.ModuleDict(
            {
                key.removesuffix("_opt"): LOSSES.build(block, path=f"train.{key}")
                for key, block in losses.items()
                if key not in self.aside
            }
        )
        model = networks["g"]
        self.needs = {"image": "image"}
        self.dense = next((name for name, each in self.criteria.items() if isinstance(each, PatchOpinionLoss)), None)
        if self.dense is not None:
            self._require_patches(self.dense, losses)
            self.needs |= {"opinion": "number", "reference": "image"}
        if self.criteria:
            self.needs[model.target] = "number"
        if any(each.needs_reference for each in (model, *self.frozen.values())):
            self.needs["reference"] = "image"

    @classmethod
    def from_options(
        cls, networks: Mapping[str, nn.Module], options: Options, frozen: Mapping[str, nn.Module]
    ) -> Quality:
        """Every loss that stands in the section `train`."""
        objective = cls(networks, options.train.losses(), frozen=frozen)
        objective.keep_answers(options)
        return objective

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
        found: dict[str, Tensor] = {}
        with watched(network, self.watched_layers) as layers:
            if self.dense is None:
                prediction = network(batch["image"], batch.get("reference")).float()
            else:
                prediction, found = self._dense_losses(self.criteria[self.dense], batch)
        for name, criterion in self.criteria.items():
            if name != self.dense:
                found |= named(name, criterion(prediction, batch[model.target].float()))
        inputs = [batch[field] for field in self.inputs if field in batch]
        return found | self.lesson_losses(Seen(inputs, prediction, layers), batch)

    def _dense_losses(self, criterion: PatchOpinionLoss, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The prediction for images, and what `criterion` says of it and of that for their patches."""
        mix = criterion.drawn()
        prediction, patches = self.networks["g"](batch["image"], batch["reference"], patches=True, mix=mix)
        shares = batch[unwrapped(self.networks["g"]).target].float()
        opinions = local_opinions(batch["opinion"].float(), batch["image"], batch["reference"], patches.shape[2:])
        local_shares = level_logits(opinions).softmax(dim=1)
        return prediction.float(), named(
            "dense", criterion.dense(prediction.float(), patches.float(), shares, local_shares, mix)
        )

    def _require_patches(self, name: str, losses: Mapping[str, Mapping[str, Any]]) -> None:
        """Refuse `PatchOpinionLoss` where there are no patches, or another loss that does not know of mixed tokens."""
        model, criterion = self.networks["g"], self.criteria[name]
        problems = []
        if not getattr(model, "patches", False):
            message = f"PatchOpinionLoss teaches TRIQ with patches: true; network_g is {type(model).__name__} without."
            problems.append(Problem(f"train.{name}_opt.type", message))
        others = ", ".join(key for key in losses if key.removesuffix("_opt") not in (name, *self.looking))
        if criterion.mix_tokens and others:
            message = f"mixes the tokens of two images, which {others} would take for one: leave out one of the two."
            problems.append(Problem(f"train.{name}_opt.mix_tokens", message))
        if problems:
            raise OptionsError(problems)

    def taught(self, *inputs: Tensor) -> Tensor:
        """The teacher's predictions, in the form in which the network predicts: logits of levels, or opinions."""
        teacher, student = self.frozen["teacher"], unwrapped(self.networks["g"])
        prediction = teacher(*inputs).float()
        if teacher.target == student.target:
            return prediction
        worst, best = teacher.score_range
        opinion = (teacher.score(prediction) - worst) / (best - worst)
        return opinion if student.target == "opinion" else level_logits(opinion)

    def example(self, device: torch.device) -> list[Tensor]:
        """A grey image, and another one as its reference."""
        return [torch.full((1, 3, _EXAMPLE_PX, _EXAMPLE_PX), 0.5, device=device)] * 2
