"""Blind restoration as in Real-ESRGAN (Wang et al. 2021, arXiv:2107.10833): sharp images are degraded on the device.

`RealESRNetModel` compares pixels, `RealESRGANModel` trains against a discriminator; it follows with the weights of the
first. Which targets are sharpened is in the option file; the published values are the defaults. With
`high_order_degradation: false` both train on pairs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from restore.registry import OBJECTIVES
from restore.training.degrading import Degrading, Sharpening
from restore.training.objectives.adversarial import Adversarial
from restore.training.objectives.restoration import Restoration
from restore.training.preparation import Preparation

if TYPE_CHECKING:
    from restore.options import Options

__all__ = ["BlindAdversarial", "BlindRestoration"]


@OBJECTIVES.add("RealESRNetModel", "RealHATMSEModel")
class BlindRestoration(Restoration):
    """As `Restoration`, on images degraded on the device; with `gt_usm`, all starts from the sharpened image."""

    @classmethod
    def preparations_of(cls, options: Options) -> list[Preparation]:
        """Degrading, then what all objectives do."""
        sharpen = "neither" if options.gt_usm is False else "both"
        degrading = [Degrading.from_options(options, sharpen=sharpen)] if options.degrades else []
        return [*degrading, *super().preparations_of(options)]


@OBJECTIVES.add("RealESRGANModel", "RealHATGANModel")
class BlindAdversarial(Adversarial):
    """As `Adversarial`, on images degraded on the device; targets are sharpened after they were cut and mixed."""

    @classmethod
    def preparations_of(cls, options: Options) -> list[Preparation]:
        """Degrading, then what all objectives do, then the sharpening of those targets that want it."""
        sharpen = "neither" if options.lq_usm is False else "input"
        degrading = [Degrading.from_options(options, sharpen=sharpen)] if options.degrades else []
        wanted = {
            "pixel": options.l1_gt_usm is not False,
            "perceptual": options.percep_gt_usm is not False,
            "gan": options.gan_gt_usm is True,
        }
        sharpened = [kind for kind, wants in wanted.items() if wants]
        sharpening = [Sharpening(sharpened)] if sharpened else []
        return [*degrading, *super().preparations_of(options), *sharpening]
