from __future__ import annotations

import math

import pytest

from restore.errors import DataError, OptionsError
from restore.leaderboard.formulas import ESR_YEARS, eligible, score_esr, score_perceptual

E2 = math.exp(2)


@pytest.mark.parametrize("year", ESR_YEARS)
def test_the_baseline_of_every_year_scores_e_squared(year):
    rules = ESR_YEARS[year]
    assert score_esr(rules.runtime_ms, rules.flops_g, rules.params_m, year=year) == pytest.approx(7.389056, abs=1e-6)
    assert sum(rules.weights) == pytest.approx(1)


@pytest.mark.parametrize(
    ("year", "expected", "weight"), [(2024, 4.1195, 0.7), (2025, 4.1195, 0.7), (2026, 3.6524, 0.8)]
)
def test_halving_the_runtime_alone(year, expected, weight):
    rules = ESR_YEARS[year]
    score = score_esr(rules.runtime_ms / 2, rules.flops_g, rules.params_m, year=year)
    assert score == pytest.approx(expected, abs=1e-4)
    assert score == pytest.approx(weight * math.e + (1 - weight) * E2)


def test_baselines_are_those_of_the_year():
    assert score_esr(13.54, 19.67, 0.317, year=2024) == pytest.approx(E2)
    assert score_esr(16.69, 16.70, 0.276, year=2025) == pytest.approx(E2)
    assert score_esr(7.74, 9.83, 0.151, year=2026) == pytest.approx(E2)


def test_no_formula_for_other_years_and_no_free_entries():
    with pytest.raises(OptionsError, match=r"2023 was published. Known: 2024, 2025, 2026"):
        score_esr(1, 1, 1, year=2023)
    with pytest.raises(DataError, match="flops"):
        score_esr(1, 0, 1, year=2024)


def test_a_runtime_of_another_world_is_no_overflow():
    assert score_esr(1e6, 1, 1, year=2026) == math.inf


def test_eligibility():
    assert eligible({"valid": 26.90, "test": 26.99}, 2025)
    assert not eligible({"valid": 26.95, "test": 26.98}, 2025)
    assert not eligible({"valid": 26.89}, 2024)


def test_perceptual_score():
    copy = {"lpips": 0.0, "dists": 0.0, "clipiqa": 0.0, "maniqa": 0.0, "musiq": 0.0, "niqe": 12.0}
    assert score_perceptual(copy) == 2.0
    assert score_perceptual(copy | {"clipiqa": 1.0, "maniqa": 1.0, "musiq": 100.0, "niqe": 0.0}) == 6.0
    assert score_perceptual(copy | {"niqe": 7.5}) == pytest.approx(2.25)
    with pytest.raises(DataError, match="missing: maniqa"):
        score_perceptual({key: value for key, value in copy.items() if key != "maniqa"})
