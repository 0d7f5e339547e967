"""What a chart draws lies where its values are, says them, and cannot break out of the page."""

from __future__ import annotations

import math
from xml.etree import ElementTree

import numpy as np
import pytest

from restore.reports import charts
from restore.reports.charts import MOST_POINTS, Dot, curve, distribution, scatter


def nodes(svg, tag, kind=""):
    return [node for node in ElementTree.fromstring(svg).iter(tag) if kind in node.get("class", "").split() or not kind]


def places(svg, kind="dot"):
    return [(float(node.get("cx")), float(node.get("cy"))) for node in nodes(svg, "circle", kind)]


def pairs(text):
    return [tuple(map(float, pair.split(","))) for pair in text.split()]


def test_scatter_places_dots_by_value():
    a, b, c = places(scatter([Dot(1, 10), Dot(100, 20), Dot(10, 15)], "x", "y", x_is_log=True))
    assert a[0] < c[0] < b[0]
    assert c[0] == pytest.approx((a[0] + b[0]) / 2, abs=0.2)  # the axis is logarithmic
    assert b[1] < c[1] < a[1]
    a, b, c = places(scatter([Dot(1, 10), Dot(100, 20), Dot(10, 15)], "x", "y"))
    assert c[0] < (a[0] + b[0]) / 2 - 50
    assert scatter([Dot(0, 1)], "x", "y", x_is_log=True) == ""
    assert len(places(scatter([Dot(0, 1), Dot(math.nan, 1), Dot(2, math.inf)], "x", "y"))) == 1


def test_a_line_over_dots_stays_inside():
    svg = scatter([Dot(0, 0), Dot(1, 1)], "x", "y", line=[(0, -5), (0.5, 0.5), (1, 7)])
    ((_, low), (_, middle), (_, high)) = pairs(nodes(svg, "polyline")[0].get("points"))
    bottom, top = places(svg)[0][1], places(svg)[1][1]
    assert top - 20 < high < middle < low < bottom + 20


def test_names_never_cover_one_another():
    crowd = [Dot(1 + index / 100, 1, name=f"network number {index}") for index in range(12)]
    shown = [node.text for node in nodes(scatter(crowd, "x", "y"), "text", "named")]
    assert 0 < len(shown) < 12
    alone = scatter([Dot(1, 1, name="first"), Dot(50, 9, name="second")], "x", "y")
    assert [node.text for node in nodes(alone, "text", "named")] == ["first", "second"]


def test_texts_are_escaped():
    hostile = "<script>\"'&"
    for svg in (
        scatter([Dot(1, 2, hostile, hostile)], hostile, hostile),
        curve([(1, 2)], (hostile, hostile)),
        distribution({hostile: 1.0}, hostile, lambda value: hostile, {hostile: hostile}),
    ):
        assert "<script" not in svg
        root = ElementTree.fromstring(svg)
        assert hostile in root.get("aria-label")
        assert len(set(root.itertext()) | {attribute for node in root.iter() for attribute in node.attrib.values()}) > 1


def test_a_curve_holds_its_values_for_the_pointer():
    svg = curve([(100, 0.5), (200, 0.25), (300, math.nan)], ("iteration", "l_pix"), x_range=(0, 1000))
    (line,) = nodes(svg, "polyline")
    assert pairs(line.get("data-values")) == [(100, 0.5), (200, 0.25)]
    assert line.get("data-names") == "iteration|l_pix"
    assert pairs(line.get("points")) == places(svg)
    assert places(svg)[1][0] < charts.WIDTH / 2  # the axis holds the whole run
    assert curve([(1, math.nan)], ("x", "y"))


def test_a_long_curve_keeps_its_extremes():
    ys = np.random.default_rng(0).normal(size=20_000)
    ys[12_345] = 99
    svg = curve(list(enumerate(ys.tolist())), ("x", "y"))
    kept = pairs(nodes(svg, "polyline")[0].get("data-values"))
    assert len(kept) <= MOST_POINTS
    assert kept == sorted(kept)
    assert (kept[0][0], kept[-1][0]) == (0, 19_999)
    assert (12_345, 99) in kept
    assert min(y for _, y in kept) == pytest.approx(ys.min(), rel=1e-5)


def test_a_distribution_has_a_place_for_every_value():
    values = {str(value): value for value in np.linspace(27.3, 31.9, 30)}
    svg = distribution(values, "PSNR", lambda value: f"{value:.1f}", {name: f"#{name}" for name in values})
    bars = [node.find("title").text for node in nodes(svg, "rect")]
    assert sum(int(text.split(": ")[1].split()[0]) for text in bars) == 30
    assert [node.text for node in nodes(svg, "text", "tick")] == ["27", "28", "29", "30", "31", "32"]
    dots = places(svg)
    assert len(dots) == 30
    assert all(0 <= x <= charts.WIDTH for x, _ in dots)
    assert all(math.dist(a, b) > 6 for a in dots for b in dots if a != b)
    assert [node.get("href") for node in nodes(svg, "a")] == [f"#{name}" for name in values]
    few = distribution({"a": 1.0, "b": 1.0}, "PSNR", str)
    assert not nodes(few, "rect")
    assert len(set(places(few))) == 2
