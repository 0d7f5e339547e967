"""Adversarial restoration: a discriminator tells restored from real images, and the network learns to pass.

`SRGANModel` compares each image with a label; `ESRGANModel` is relativistic: each score is compared with the mean score
of the other kind (Wang et al. 2018, arXiv:1809.00219, section 3.2).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from restore.data.fields import Fields
from restore.data.loading import Batch
from restore.errors import OptionsError, Problem
from restore.losses.adversarial import artifact_map
from restore.registry import LOSSES, OBJECTIVES
from restore.training.distribution import unwrapped
from restore.training.objectives.base import Objective, compared, restored_by
from restore.training.preparation import Preparation

if TYPE_CHECKING:
    from restore.options import Options

__all__ = ["Adversarial", "RelativisticAdversarial"]

_NO_AVERAGE = Problem("train.ldl_opt", "needs the moving average: set ema_decay.")


@OBJECTIVES.add("SRGANModel")
class Adversarial(Objective):
    """Losses between restored and reference images, and between a discriminator's scores of both.

    Attributes:
        relative: whether the network's adversarial loss looks at the scores of real images, too.

    Args:
        networks: `{"g": network, "d": discriminator}`; a discriminator returns scores, or lists of maps, scores last.
        losses: blocks by option key: `gan_opt`, and any of `pixel_opt`, `perceptual_opt`, `ldl_opt`,
            `feature_matching_opt` and others that compare images.
        net_d_iters: the network learns in every n-th iteration.
        net_d_init_iters: iterations at the start in which the discriminator learns alone.
        preparations: what happens to every batch before the networks see it.
    """

    needs: Fields = {"lq": "image", "gt": "image"}  # noqa: RUF012
    relative: ClassVar[bool] = False
    compares: ClassVar[Mapping[str, str]] = {"gan_opt": "scores", "feature_matching_opt": "features"}

    def __init__(
        self,
        networks: Mapping[str, nn.Module],
        losses: Mapping[str, Mapping[str, Any]],
        *,
        net_d_iters: int = 1,
        net_d_init_iters: int = 0,
        preparations: Sequence[Preparation] = (),
    ):
        super().__init__(networks, preparations)
        missing = _missing(networks, losses)
        if missing:
            raise OptionsError(missing)
        self.net_d_iters = net_d_iters
        self.net_d_init_iters = net_d_init_iters
        built = {key.removesuffix("_opt"): LOSSES.build(block, path=f"train.{key}") for key, block in losses.items()}
        self.gan = built.pop("gan")
        self.ldl = built.pop("ldl", None)
        self.feature_matching = built.pop("feature_matching", None)
        names = {"pixel": "pix", "perceptual": "percep"}
        self.criteria = nn.ModuleDict({names.get(key, key): loss for key, loss in built.items()})
        self._restored: Tensor | None = None

    @classmethod
    def from_options(
        cls, networks: Mapping[str, nn.Module], options: Options, frozen: Mapping[str, nn.Module]
    ) -> Adversarial:
        """The losses of the section `train`, when each network learns, and what happens to batches before."""
        train = options.train
        return cls(
            networks,
            train.losses(),
            net_d_iters=train.net_d_iters,
            net_d_init_iters=train.net_d_init_iters,
            preparations=cls.preparations_of(options),
        )

    @classmethod
    def problems(cls, options: Options) -> list[Problem]:
        """Also what adversarial training cannot do without."""
        losses = options.train.losses()
        missing = _missing([key.removeprefix("network_") for key in options.networks], losses)
        if "ldl_opt" in losses and not options.train.ema_decay:
            missing.append(_NO_AVERAGE)
        return [*missing, *super().problems(options)]

    def turns(self, iteration: int) -> Sequence[str]:
        """The discriminator always learns, the network when the options say."""
        waits = iteration % self.net_d_iters or iteration <= self.net_d_init_iters
        return ("d",) if waits else ("g", "d")

    def losses(self, batch: Batch, turn: str) -> dict[str, Tensor]:
        """The network's losses, then the discriminator's on the same restored images."""
        if turn == "g":
            restored = self.restored(batch["lq"])
            self._restored = restored.detach()
            return self._network_losses(batch, restored)
        if self._restored is None:
            with torch.no_grad():
                self._restored = self.restored(batch["lq"])
        restored, self._restored = self._restored, None
        return self._discriminator_losses(self.targets(batch)["gan"], restored)

    def targets(self, batch: Batch) -> dict[str, Tensor]:
        """What restored images are compared with, by the kind of comparison; a preparation may have made some."""
        return {kind: batch.get(f"gt_{kind}", batch["gt"]) for kind in ("pixel", "perceptual", "gan", "ldl")}

    def adversarial(self, fake: Any, real: Any) -> Tensor:
        """The network's adversarial loss, from the scores of restored and, if it is `relative`, real images."""
        return self.gan(fake, True)

    def discrimination(self, fake: Any, real: Any) -> tuple[Tensor, Tensor]:
        """The discriminator's losses on real and on restored images."""
        return self.gan(real, True, is_disc=True), self.gan(fake, False, is_disc=True)

    def _network_losses(self, batch: Batch, restored: Tensor) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        targets = self.targets(batch)
        for name, criterion in self.criteria.items():
            target = targets["perceptual" if name == "percep" else "pixel"]
            losses = compared(name, criterion, restored, target)
            found |= {f"l_g_{part.removeprefix('l_')}": loss for part, loss in losses.items()}
        if self.ldl is not None:
            found["l_g_ldl"] = self._locally_discriminative(batch, restored, targets["ldl"])
        judge = unwrapped(self.networks["d"])  # frozen now: no gradients of it are to be shared
        fake = judge(restored)
        real = None
        if self.relative or self.feature_matching is not None:
            with torch.no_grad():
                real = judge(targets["gan"])
        if self.feature_matching is not None:
            found["l_g_feat"] = self.feature_matching(_flat(fake), _flat(real))
        found["l_g_gan"] = self.adversarial(fake, real)
        return found

    def _discriminator_losses(self, target: Tensor, restored: Tensor) -> dict[str, Tensor]:
        judge = self.networks["d"]
        real, fake = judge(target), judge(restored)
        on_real, on_fake = self.discrimination(fake, real)
        return {
            "l_d_real": on_real,
            "l_d_fake": on_fake,
            "out_d_real": _scores(real).mean(),
            "out_d_fake": _scores(fake).mean(),
        }

    def _locally_discriminative(self, batch: Batch, restored: Tensor, target: Tensor) -> Tensor:
        if self.average is None:
            raise OptionsError([_NO_AVERAGE])
        averaged = restored_by(self.average, batch["lq"])
        weight = artifact_map(restored, target, averaged)
        return self.ldl(weight * restored, weight * target)


@OBJECTIVES.add("ESRGANModel")
class RelativisticAdversarial(Adversarial):
    """As `Adversarial`, each score relative to the mean score of the other kind."""

    relative = True

    def adversarial(self, fake: Tensor, real: Tensor) -> Tensor:
        """Half of what it takes to swap the two kinds."""
        return 0.5 * (self.gan(real - fake.mean(), False) + self.gan(fake - real.mean(), True))

    def discrimination(self, fake: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
        """Half of what it takes to tell them apart."""
        on_real = self.gan(real - fake.mean().detach(), True, is_disc=True)
        on_fake = self.gan(fake - real.mean().detach(), False, is_disc=True)
        return 0.5 * on_real, 0.5 * on_fake


def _missing(networks: Collection[str], losses: Collection[str]) -> list[Problem]:
    """What adversarial training needs and does not have among these networks and losses."""
    needed = {
        "network_d": ("a discriminator", "d" in networks),
        "train.gan_opt": ("an adversarial loss such as {type: GANLoss, gan_type: vanilla}", "gan_opt" in losses),
    }
    return [
        Problem(path, f"missing: adversarial training needs {what}.")
        for path, (what, there) in needed.items()
        if not there
    ]


def _scores(output: Any) -> Tensor:
    """The scores alone, where a discriminator returns maps as well."""
    while not isinstance(output, Tensor):
        output = output[-1]
    return output.detach()


def _flat(output: Any) -> list[Tensor]:
    """Every map that a discriminator returns, its scores left out where there are maps."""
    if isinstance(output, Tensor):
        return [output]
    return [tensor for part in output for tensor in (part[:-1] if not isinstance(part, Tensor) else [part])]
