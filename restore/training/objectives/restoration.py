"""Supervised restoration: the restored image is compared with the reference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from restore.data.loading import Batch
from restore.errors import OptionsError, Problem
from restore.registry import LOSSES, OBJECTIVES
from restore.training.objectives.base import Objective

__all__ = ["Restoration"]

LossBlock = Mapping[str, Any]


@OBJECTIVES.add("SRModel", "SwinIRModel", "ImageCleanModel", "ImageRestorationModel", "HATModel")
class Restoration(Objective):
    """Losses between `network(lq)` and `gt`.

    Args:
        networks: `{"g": network}`.
        pixel_opt: block of a pixel loss, logged as `l_pix`.
    """

    def __init__(self, networks: dict[str, nn.Module], *, pixel_opt: LossBlock | None = None):
        super().__init__(networks)
        blocks = {"pix": ("train.pixel_opt", pixel_opt)}
        self.criteria = nn.ModuleDict(
            {name: LOSSES.build(block, path=path) for name, (path, block) in blocks.items() if block}
        )
        if not self.criteria:
            raise OptionsError([Problem("train", f"give one of {', '.join(path for path, _ in blocks.values())}.")])

    def losses(self, batch: Batch, turn: str = "g") -> dict[str, Tensor]:
        """Every configured loss, computed in float32."""
        restored = self.networks["g"](batch["lq"]).float()
        return {f"l_{name}": criterion(restored, batch["gt"]) for name, criterion in self.criteria.items()}
