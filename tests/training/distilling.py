"""An objective with everything that one can have: a frozen teacher, heads, and momentum copies of both kinds."""

from __future__ import annotations

from torch import nn
from torch.nn.functional import l1_loss, mse_loss

from restore.registry import OBJECTIVES
from restore.training.followers import Follower
from restore.training.objectives.base import Objective


@OBJECTIVES.add("Distilled")
class Distilled(Objective):
    """The network agrees with a reference, a teacher, and, through a head, its own past."""

    needs = {"lq": "image", "gt": "image"}  # noqa: RUF012
    teaching = "required"

    @classmethod
    def from_options(cls, networks, options, frozen):
        head = nn.Sequential(nn.Conv2d(3, 4, 1), nn.GELU(), nn.Conv2d(4, 4, 1))
        followers = {"slow": Follower(networks["g"], 0.9), "slow_head": Follower(head, 0.5, warmup=True)}
        return cls(networks, frozen=frozen, heads={"head": head}, followers=followers)

    def losses(self, batch, turn="g"):
        restored = self.restored(batch["lq"])
        past = self.followers["slow_head"](self.followers["slow"](batch["lq"]))
        return {
            "l_pix": l1_loss(restored, batch["gt"]),
            "l_teacher": l1_loss(restored, self.frozen["teacher"](batch["lq"]).float()),
            "l_past": mse_loss(self.heads["head"](restored), past.float()),
        }
