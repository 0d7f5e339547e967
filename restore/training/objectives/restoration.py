"""Supervised restoration: the restored image is compared with the reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from restore.data.fields import Fields
from restore.data.loading import Batch
from restore.errors import OptionsError, Problem
from restore.registry import LOSSES, OBJECTIVES
from restore.training.distribution import unwrapped
from restore.training.lessons import Seen, watched
from restore.training.objectives.base import compared, restored_by
from restore.training.objectives.taught import Taught
from restore.training.preparation import Preparation

if TYPE_CHECKING:
    from restore.options import Options

__all__ = ["Restoration"]

_NO_LOSS = Problem("train", "no loss: give at least one of pixel_opt and perceptual_opt.")
_EXAMPLE_PX = 64
_LOG_NAMES = {"pixel_opt": "pix", "perceptual_opt": "percep"}


_OTHERS = (
    *("SwinIRModel", "HATModel", "HATFIRModel", "DATModel", "CATModel", "CATSEModel", "CATModel_Unet", "ARTModel"),
    *("ATDModel", "RGTModel", "DRCTModel", "SRFormerModel", "SwinFIRModel", "UformerModel", "ESRModel", "HITModel"),
    *("MambaIRModel", "MambaIRv2Model", "MambaIRv2LightModel", "ImageCleanModel", "ImageRestorationModel"),
)
"""Names that other repositories have for it; they differ from SRModel in how a test pads, cuts and averages images."""


@OBJECTIVES.add("SRModel", *_OTHERS)
class Restoration(Taught):
    """Losses between `network(lq)` and `gt`, and between the network and its teacher.

    Args:
        networks: `{"g": network}`.
        losses: blocks of losses by option key; `pixel_opt` is logged as `l_pix`, `fft_opt` as `l_fft`.
        preparations: what happens to every batch before the network sees it.
        frozen: `{"teacher": network}`, or nothing.
    """

    needs: Fields = {"lq": "image", "gt": "image"}  # noqa: RUF012
    inputs = ("lq",)

    def __init__(
        self,
        networks: Mapping[str, nn.Module],
        losses: Mapping[str, Mapping[str, Any]],
        *,
        preparations: Sequence[Preparation] = (),
        frozen: Mapping[str, nn.Module] | None = None,
    ):
        super().__init__(networks, losses, preparations, frozen=frozen)
        if not losses:
            raise OptionsError([_NO_LOSS])
        self.criteria = nn.ModuleDict(
            {
                _LOG_NAMES.get(key, key.removesuffix("_opt")): LOSSES.build(block, path=f"train.{key}")
                for key, block in losses.items()
                if key not in self.aside
            }
        )
        if not self.criteria:  # the teacher is all the network learns from
            self.needs = {"lq": "image"}

    @classmethod
    def from_options(
        cls, networks: Mapping[str, nn.Module], options: Options, frozen: Mapping[str, nn.Module]
    ) -> Restoration:
        """Every loss that stands in the section `train`, and what happens to batches before."""
        _require_fit(networks["g"], frozen)
        objective = cls(networks, options.train.losses(), preparations=cls.preparations_of(options), frozen=frozen)
        objective.keep_answers(options)
        return objective

    @classmethod
    def problems(cls, options: Options) -> list[Problem]:
        """Also whether there is nothing to minimise."""
        return [*([] if options.train.losses() else [_NO_LOSS]), *super().problems(options)]

    @classmethod
    def loss_problems(cls, losses: Mapping[str, Mapping[str, Any]]) -> list[Problem]:
        """Also the losses that need a discriminator."""
        message = "needs a discriminator: take model_type SRGANModel, ESRGANModel or RealESRGANModel, or remove it."
        lacking = [key for key in ("gan_opt", "ldl_opt", "feature_matching_opt") if key in losses]
        others = {key: block for key, block in losses.items() if key not in lacking}
        return [*(Problem(f"train.{key}", message) for key in lacking), *super().loss_problems(others)]

    def losses(self, batch: Batch, turn: str = "g") -> dict[str, Tensor]:
        """Every configured loss, computed in float32."""
        with watched(self.networks["g"], self.watched_layers) as layers:
            restored = self.restored(batch["lq"])
        found: dict[str, Tensor] = {}
        for name, criterion in self.criteria.items():
            found |= compared(name, criterion, restored, batch["gt"])
        return found | self.lesson_losses(Seen([batch["lq"]], restored, layers), batch)

    def taught(self, *inputs: Tensor) -> Tensor:
        """The images that the teacher restores."""
        return restored_by(self.frozen["teacher"], *inputs)

    def example(self, device: torch.device) -> list[Tensor]:
        """A grey image."""
        channels = unwrapped(self.networks["g"]).spec.in_channels
        return [torch.full((1, channels, _EXAMPLE_PX, _EXAMPLE_PX), 0.5, device=device)]


def _require_fit(network: nn.Module, frozen: Mapping[str, nn.Module]) -> None:
    """Refuse a teacher that answers with images of another size or other channels.

    Raises:
        OptionsError: says which.
    """
    for name, teacher in frozen.items():
        for what, ours, theirs in (
            ("enlarges {} times", network.spec.scale, teacher.spec.scale),
            ("takes {} channel(s)", network.spec.in_channels, teacher.spec.in_channels),
            ("gives {} channel(s)", network.spec.out_channels, teacher.spec.out_channels),
        ):
            if ours != theirs:
                message = f"it {what.format(theirs)}, and network_g {what.format(ours)}. Take one that does the same."
                raise OptionsError([Problem(f"train.{name}.model", message)])
