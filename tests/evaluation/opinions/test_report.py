"""The page of a quality model."""

from __future__ import annotations

import numpy as np

from restore.evaluation.opinions.report import render, scatter
from restore.evaluation.opinions.run import agreement
from restore.inference.judging import Judgement


def judged(scores, opinions):
    return [Judgement(f"<{number}>.png", *pair) for number, pair in enumerate(zip(scores, opinions, strict=True))]


def curved(count=60):
    random = np.random.default_rng(0)
    scores = random.uniform(-3, 3, count)
    return judged(scores, 1 / (1 + np.exp(-2 * scores)) + random.normal(0, 0.01, count))


def test_the_plot_has_every_image_and_a_curve():
    svg = scatter(curved())
    assert svg.count("<circle") == 60
    assert len(svg.partition('class="fit" points="')[2].partition('"')[0].split()) == 60
    assert "&lt;7&gt;.png: score" in svg
    assert "<polyline" not in scatter(judged([0.1, 0.5, 0.7], [0.2, 0.3, 0.1]))  # too few for a fit


def test_the_page_holds_every_figure():
    each = curved()
    found = agreement([one.score for one in each], [one.opinion for one in each], resamples=20)
    found["logistic4"], found["median_over_splits"] = None, None
    page = render(
        {"name": "<mine>", "network": "IQT", "parameters": 1234, "datasets": {"<set>": found}}, {"<set>": each}
    )
    for figure in (*found["none"].values(), *found["logistic5"].values()):
        assert f">{figure:.4f}<" in page
    for low, high in found["intervals"].values():
        assert f"{low:.3f}" in page
        assert f"{high:.3f}" in page
    assert "logistic, 4 parameters" not in page
    assert "<mine>" not in page
    assert "<set>" not in page
    assert "1,234 parameters" in page
