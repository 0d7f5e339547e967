"""The shipped small models: what their cards promise, on photographs and severities that they were not trained on."""

from __future__ import annotations

import numpy as np
import pytest

from restore.data.ratings.synthetic import DEFAULT_KINDS, SyntheticQualityDataset, distort
from restore.errors import ImageError, OptionsError
from restore.images import read_image
from restore.inference.judging import judgements
from restore.metrics import METRICS, iqt, traits, triq
from restore.metrics.correlation import srcc
from restore.quality import load_quality
from restore.zoo import find_card, load_model, load_network

SHIPPED = {"iqt_small": 0.9, "triq_small": 0.8}


@pytest.fixture(scope="module")
def photograph(shared):
    return np.ascontiguousarray(read_image(shared("data/benchmark/McMaster/01.png")).pixels[100:260, 100:260])


@pytest.mark.parametrize("name", SHIPPED)
def test_a_file_and_its_card_agree(name):
    card = find_card(name)
    assert card.task == "quality"
    assert "synthetic" in f"{card.summary} {card.trained_on}".lower()
    assert card.path.stat().st_size < 4_000_000
    model = load_quality(name)
    state, own = load_network(name).state_dict(), model.state_dict()
    assert all((state[key] == own[key]).all() for key in own)
    with pytest.raises(OptionsError, match="judges images and restores none"):
        load_model(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", SHIPPED)
def test_agreement_on_photographs_and_severities_never_seen(name, shared):
    folder = str(shared("data/benchmark/BSD100/HR"))
    dataset = SyntheticQualityDataset(dataroot_gt=folder, max_images=20, between=True)
    judged = list(judgements(load_quality(name), dataset))
    assert srcc([each.score for each in judged], [each.opinion for each in judged]) >= SHIPPED[name]


@pytest.mark.parametrize("kind", DEFAULT_KINDS)
def test_scores_fall_as_a_distortion_grows(kind, photograph):
    versions = [distort(photograph, kind, severity, seed=1) for severity in (0.1, 0.5, 0.9)]
    with_reference = [iqt(version, photograph) for version in versions]
    without = [triq(version) for version in versions]
    assert with_reference[0] > with_reference[1] > with_reference[2]
    assert without[0] > without[2]
    assert all(1 <= score <= 5 for score in without)


def test_metrics_by_name(photograph):
    assert {"iqt", "triq"} <= set(METRICS)
    assert traits("iqt").needs_reference
    assert not traits("triq").needs_reference
    assert "synthetic" in traits("iqt").note
    noisy = distort(photograph, "noise", 0.5)
    assert METRICS.bind({"type": "iqt", "border_px": 4})(noisy, photograph) == iqt(
        noisy[4:-4, 4:-4], photograph[4:-4, 4:-4]
    )
    grey = photograph[..., 0]
    assert triq(grey) == pytest.approx(triq(np.repeat(grey[..., None], 3, axis=2)), abs=1e-5)


def test_bad_images(photograph):
    with pytest.raises(ImageError, match="differ in size"):
        iqt(photograph, photograph[1:])
    with pytest.raises(ImageError, match="grey against RGB"):
        iqt(photograph[..., 0], photograph)
    with pytest.raises(ImageError, match="is only"):
        iqt(photograph[:50], photograph[:50])
    with pytest.raises(ImageError, match="NaN"):
        triq(np.full((40, 40, 3), np.nan, np.float32))
