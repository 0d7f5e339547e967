"""Ticks are round, few, around the values, and can be told apart."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restore.reports.scales import MOST_STEPS, linear_scale, log_scale, round_ticks, tick_texts

VALUES = st.floats(-1e9, 1e9, allow_nan=False)


@given(VALUES, VALUES)
def test_round_ticks_hold_the_range_and_are_few(a, b):
    low, high = sorted((a, b))
    ticks = round_ticks(low, high)
    step = ticks[1] - ticks[0]
    assert 2 <= len(ticks) <= MOST_STEPS + 3
    assert ticks[0] <= low + 1e-6 * step
    assert ticks[-1] >= high - 1e-6 * step
    assert f"{step:.3e}".split("e")[0] in ("1.000", "2.000", "5.000")
    assert len(set(tick_texts(ticks))) == len(ticks)


@pytest.mark.parametrize(
    ("low", "high", "texts"),
    [
        (27.6, 31.9, ["27", "28", "29", "30", "31", "32"]),
        (0.0, 2e-4, ["0.00000", "0.00005", "0.00010", "0.00015", "0.00020"]),
        (1e-8, 3e-8, ["1.0e-08", "1.5e-08", "2.0e-08", "2.5e-08", "3.0e-08"]),
        (0, 50_000, ["0", "10,000", "20,000", "30,000", "40,000", "50,000"]),
        (8123, 8123, ["8,000", "8,050", "8,100", "8,150", "8,200", "8,250"]),
        (-0.2, 0.1, ["-0.20", "-0.15", "-0.10", "-0.05", "0.00", "0.05", "0.10"]),
    ],
)
def test_how_ticks_are_written(low, high, texts):
    assert tick_texts(round_ticks(low, high)) == texts


def test_an_axis_ends_at_ticks_or_at_the_values():
    loose = linear_scale([3, 48]).between(0, 100)
    assert (loose(0), loose(50), loose(25)) == (0, 100, 50)
    tight = linear_scale([3, 48], is_tight=True).between(0, 100)
    assert (tight(3), tight(48)) == (0, 100)
    assert [text for _, text in tight.marks()] == ["10", "20", "30", "40"]
    assert all(0 <= px <= 100 for px, _ in tight.marks())
    assert linear_scale([7], is_tight=True).marks()  # a constant has an axis too
    assert linear_scale([0, 10], room=0.1, is_tight=True).low == -1


def test_equal_factors_are_equally_far_apart_on_a_logarithmic_axis():
    scale = log_scale([2, 150]).between(0, 1)
    assert scale(20) - scale(2) == pytest.approx(scale(100) - scale(10))
    assert [text for _, text in scale.marks()] == ["1", "2", "5", "10", "20", "50", "100", "200"]
    assert [text for _, text in log_scale([0.5, 9e5]).marks()] == [
        "0.1", "1", "10", "100", "1,000", "10,000", "100,000", "1,000,000", "10,000,000",
    ][: len(log_scale([0.5, 9e5]).ticks)]  # fmt: skip
    assert len(log_scale([5]).ticks) >= 2
