"""Correlations: closed forms, fits that are found again, intervals, refusals."""

from __future__ import annotations

import numpy as np
import pytest

from restore.errors import DataError
from restore.metrics.correlation import bootstrap_interval, correlations, fit_logistic, krcc, plcc, rmse, srcc


def test_closed_forms():
    scores, opinions = [1.0, 2, 3, 4, 5], [2.0, 1, 4, 3, 5]
    assert srcc(scores, opinions) == pytest.approx(1 - 6 * 4 / (5 * 24))
    assert krcc(scores, opinions) == pytest.approx((8 - 2) / 10)
    assert plcc(scores, np.multiply(scores, 3) + 1) == pytest.approx(1)
    assert rmse(scores, opinions) == pytest.approx(np.sqrt(4 / 5))
    assert correlations(scores, opinions)["srcc"] == srcc(scores, opinions)


@pytest.mark.parametrize("fit", ["logistic4", "logistic5"])
@pytest.mark.parametrize("direction", [1, -1])
@pytest.mark.parametrize("scale", [1, 1e4])
def test_a_logistic_relation_is_found_again(fit, direction, scale):
    scores = np.linspace(-4, 4, 60)
    opinions = 20 + 60 / (1 + np.exp(-direction * 2.5 * (scores - 0.5)))
    curve = fit_logistic(scores * scale + 7 * scale, opinions, fit=fit)
    assert curve(scores * scale + 7 * scale) == pytest.approx(opinions, abs=1e-4)
    assert plcc(scores * scale, opinions, fit=fit) == pytest.approx(1, abs=1e-6)
    assert abs(plcc(scores * scale, opinions)) < 0.97
    assert rmse(scores * scale, opinions, fit=fit) < 1e-4


def test_five_parameters_hold_a_straight_line_too():
    scores = np.linspace(0, 1, 30)
    opinions = 3 * scores + 10 + 1 / (1 + np.exp(-20 * (scores - 0.5)))
    assert rmse(scores, opinions, fit="logistic5") < 1e-4
    assert rmse(scores, opinions, fit="logistic4") > 1e-3


def test_intervals_hold_the_value_and_shrink_with_the_data():
    generator = np.random.default_rng(0)
    opinions = generator.normal(size=400)
    scores = opinions + generator.normal(size=400)
    wide = bootstrap_interval(srcc, scores[:40], opinions[:40], resamples=200)
    narrow = bootstrap_interval(srcc, scores, opinions, resamples=200)
    assert narrow[0] < srcc(scores, opinions) < narrow[1]
    assert narrow[1] - narrow[0] < 0.6 * (wide[1] - wide[0])
    assert narrow == bootstrap_interval(srcc, scores, opinions, resamples=200)


def test_an_interval_of_a_fitted_correlation():
    scores = np.linspace(-3, 3, 25)
    low, high = bootstrap_interval(plcc, scores, np.tanh(scores), resamples=20, fit="logistic4")
    assert 0.999 < low <= high <= 1 + 1e-12


@pytest.mark.parametrize(
    ("scores", "opinions", "message"),
    [
        ([1, 1, 1], [1, 2, 3], r"scores are constant \(1\): their correlation is undefined"),
        ([1, 2, 3], [5, 5, 5], "opinions are constant"),
        ([1, float("nan"), 3], [1, 2, 3], "NaN or infinity, the first at position 1"),
        ([1, 2, 3], [1, 2], "3 scores against 2 opinions"),
        ([1, 2], [1, 2], "3 values or more"),
    ],
)
@pytest.mark.parametrize("correlation", [srcc, plcc, krcc, rmse])
def test_undefined_correlations_are_refused(correlation, scores, opinions, message):
    with pytest.raises(DataError, match=message):
        correlation(scores, opinions)


def test_too_few_values_for_a_fit():
    with pytest.raises(DataError, match="5 parameters"):
        plcc([1, 2, 3, 4], [1, 2, 3, 5], fit="logistic5")
