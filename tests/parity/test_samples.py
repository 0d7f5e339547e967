"""Networks and encoders compute what they computed when they agreed with official code; nothing else is needed."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sampling import NETWORKS_, NUM_VALUES, STORED, encoders, sample

SAMPLES = json.loads(STORED.read_text())


def test_every_parity_has_a_sample():
    assert SAMPLES.keys() == {*NETWORKS_, *encoders()}
    assert STORED.stat().st_size < 400_000


@pytest.mark.parametrize("name", SAMPLES)
def test_sample(name):
    found, stored = np.array(sample(name)), np.array(SAMPLES[name])
    assert len(stored) == NUM_VALUES
    assert np.abs(stored).max() > 0.01, "a sample of nothing shows nothing"
    assert np.abs(found - stored).max() <= 1e-6 * np.abs(stored).max()
