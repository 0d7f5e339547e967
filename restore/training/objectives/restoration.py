"""Supervised restoration: the restored image is compared with the reference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from restore.data.loading import Batch
from restore.errors import OptionsError, Problem
from restore.registry import LOSSES, OBJECTIVES
from restore.training.mixing import Mixing
from restore.training.objectives.base import Objective, named

if TYPE_CHECKING:
    from restore.options import Options

__all__ = ["Restoration"]

_LOG_NAMES = {"pixel_opt": "pix", "perceptual_opt": "percep"}


@OBJECTIVES.add("SRModel", "SwinIRModel", "ImageCleanModel", "ImageRestorationModel", "HATModel")
class Restoration(Objective):
    """Losses between `network(lq)` and `gt`.

    Args:
        networks: `{"g": network}`.
        losses: blocks of losses by option key; `pixel_opt` is logged as `l_pix`, `fft_opt` as `l_fft`.
        mixing: blends the images of a batch; None leaves them.
    """

    def __init__(
        self,
        networks: Mapping[str, nn.Module],
        losses: Mapping[str, Mapping[str, Any]],
        *,
        mixing: Mixing | None = None,
    ):
        super().__init__(networks)
        self.mixing = mixing
        if not losses:
            raise OptionsError([Problem("train", "no loss: give at least one of pixel_opt and perceptual_opt.")])
        self.criteria = nn.ModuleDict(
            {
                _LOG_NAMES.get(key, key.removesuffix("_opt")): LOSSES.build(block, path=f"train.{key}")
                for key, block in losses.items()
            }
        )

    @classmethod
    def from_options(cls, networks: Mapping[str, nn.Module], options: Options) -> Restoration:
        """Every loss that stands in the section `train`, and how images are blended."""
        mixing = options.train.mixing
        blends = mixing.mixup or mixing.cutmix or mixing.cutblur
        return cls(networks, options.train.losses(), mixing=Mixing(**dict(mixing)) if blends else None)

    def prepare(self, batch: Batch) -> Batch:
        """Blend the images where that is asked for."""
        return self.mixing(batch) if self.mixing else batch

    def losses(self, batch: Batch, turn: str = "g") -> dict[str, Tensor]:
        """Every configured loss, computed in float32."""
        restored = self.restored(batch["lq"])
        found: dict[str, Tensor] = {}
        for name, criterion in self.criteria.items():
            found |= named(name, criterion(restored, batch["gt"]))
        return found
