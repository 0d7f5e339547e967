"""A subclass that leaves out a part of its contract cannot be built."""

from __future__ import annotations

import inspect

import pytest

from restore.degradations.operators.base import Operator
from restore.degradations.operators.blur import KernelBlur
from restore.degradations.operators.defects import Defect
from restore.detection.base import Detector
from restore.encoders.base import Encoder
from restore.layers.mixers.base import Mixer
from restore.quality.base import QualityModel
from restore.registry import DEGRADATIONS, DETECTORS, ENCODERS, LOSSES, MIXERS, OBJECTIVES, QUALITY, Registry
from restore.training.objectives.base import Objective
from restore.training.preparation import Preparation

BASES = [Defect, Detector, Encoder, KernelBlur, Mixer, Objective, Operator, Preparation, QualityModel]


@pytest.mark.parametrize("base", BASES, ids=lambda base: base.__name__)
def test_a_subclass_that_forgets_its_part_is_refused(base):
    forgetful = type("Forgetful", (base,), {})
    with pytest.raises(TypeError, match="abstract"):
        forgetful()


@pytest.mark.parametrize(
    "registry",
    [DEGRADATIONS, DETECTORS, ENCODERS, LOSSES, MIXERS, OBJECTIVES, QUALITY],
    ids=lambda registry: registry.kind,
)
def test_nothing_registered_is_abstract(registry: Registry):
    assert [name for name in registry if inspect.isabstract(registry.get(name))] == []
