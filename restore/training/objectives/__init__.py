"""Objectives: what a batch is for. `model_type` in an option file names one."""

from restore.training.objectives.adversarial import Adversarial, RelativisticAdversarial
from restore.training.objectives.base import Objective, named, restored_by
from restore.training.objectives.blind import BlindAdversarial, BlindRestoration
from restore.training.objectives.instances import InstanceDiscrimination, QualityInstanceDiscrimination
from restore.training.objectives.masked import MaskedPretraining, MaskedQualityPretraining
from restore.training.objectives.multitask import ContrastivePretraining, MultiTask
from restore.training.objectives.quality import Quality
from restore.training.objectives.restoration import Restoration

__all__ = [
    "Adversarial",
    "BlindAdversarial",
    "BlindRestoration",
    "ContrastivePretraining",
    "InstanceDiscrimination",
    "MaskedPretraining",
    "MaskedQualityPretraining",
    "MultiTask",
    "Objective",
    "Quality",
    "QualityInstanceDiscrimination",
    "RelativisticAdversarial",
    "Restoration",
    "named",
    "restored_by",
]
