"""Supervised restoration: the restored image is compared with the reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from restore.data.fields import Fields
from restore.data.loading import Batch
from restore.errors import OptionsError, Problem
from restore.registry import LOSSES, OBJECTIVES
from restore.training.objectives.base import Objective, compared
from restore.training.preparation import Preparation

if TYPE_CHECKING:
    from restore.options import Options

__all__ = ["Restoration"]

_NO_LOSS = Problem("train", "no loss: give at least one of pixel_opt and perceptual_opt.")
_LOG_NAMES = {"pixel_opt": "pix", "perceptual_opt": "percep"}


@OBJECTIVES.add("SRModel", "SwinIRModel", "ImageCleanModel", "ImageRestorationModel", "HATModel")
class Restoration(Objective):
    """Losses between `network(lq)` and `gt`.

    Args:
        networks: `{"g": network}`.
        losses: blocks of losses by option key; `pixel_opt` is logged as `l_pix`, `fft_opt` as `l_fft`.
        preparations: what happens to every batch before the network sees it.
    """

    needs: Fields = {"lq": "image", "gt": "image"}  # noqa: RUF012

    def __init__(
        self,
        networks: Mapping[str, nn.Module],
        losses: Mapping[str, Mapping[str, Any]],
        *,
        preparations: Sequence[Preparation] = (),
    ):
        super().__init__(networks, preparations)
        if not losses:
            raise OptionsError([_NO_LOSS])
        self.criteria = nn.ModuleDict(
            {
                _LOG_NAMES.get(key, key.removesuffix("_opt")): LOSSES.build(block, path=f"train.{key}")
                for key, block in losses.items()
            }
        )

    @classmethod
    def from_options(
        cls, networks: Mapping[str, nn.Module], options: Options, frozen: Mapping[str, nn.Module]
    ) -> Restoration:
        """Every loss that stands in the section `train`, and what happens to batches before."""
        return cls(networks, options.train.losses(), preparations=cls.preparations_of(options))

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
        restored = self.restored(batch["lq"])
        found: dict[str, Tensor] = {}
        for name, criterion in self.criteria.items():
            found |= compared(name, criterion, restored, batch["gt"])
        return found
