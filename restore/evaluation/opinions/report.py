"""The report of a quality model: one page with a scatter plot for each dataset and the tables of agreement.

Points are images, the line is the logistic function of five parameters (or of four, where that cannot be fitted) that
maps scores to opinions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from restore.errors import DataError
from restore.inference.judging import Judgement
from restore.metrics.correlation import fit_logistic
from restore.reports import charts
from restore.reports.format import counted_images
from restore.reports.pages import fill_page

__all__ = ["render", "scatter"]

_FEW = 60  # images, up to which dots are opaque
_NAMES = {
    "none": "raw",
    "logistic4": "logistic, 4 parameters",
    "logistic5": "logistic, 5 parameters",
    "median_over_splits": "median over splits, raw",
}
_COLUMNS = ("srcc", "plcc", "krcc", "rmse")


def render(results: Mapping[str, Any], judged: Mapping[str, Sequence[Judgement]]) -> str:
    """The page as text.

    Args:
        results: what `evaluate_quality` found.
        judged: every score and opinion, by dataset.
    """
    return fill_page(
        "restore.evaluation.opinions",
        "opinions.html",
        title=results["name"],
        facts=[results["network"], f"{results['parameters']:,} parameters"],
        datasets=[
            {
                "name": name,
                "count": counted_images(found["num_images"]),
                "chart": scatter(judged[name]),
                "rows": {text: [found[key][column] for column in _COLUMNS] for key, text in _rows(found).items()},
                "intervals": [found["intervals"][column] for column in _COLUMNS],
            }
            for name, found in results["datasets"].items()
        ],
        columns=[column.upper() for column in _COLUMNS],
    )


def scatter(judged: Sequence[Judgement]) -> str:
    """An SVG of opinions over scores with the fitted curve."""
    kind = "many" if len(judged) > _FEW else ""
    dots = [
        charts.Dot(one.score, one.opinion, f"{one.image}: score {one.score:.4f}, opinion {one.opinion:.4f}", kind=kind)
        for one in judged
    ]
    x, y = np.array([one.score for one in judged]), np.array([one.opinion for one in judged])
    return charts.scatter(dots, "score", "opinion", line=_curve(x, y), height=440)


def _curve(x: np.ndarray, y: np.ndarray) -> list[tuple[float, float]]:
    """60 points of the fitted function; none where nothing can be fitted."""
    for fit in ("logistic5", "logistic4"):
        try:
            curve = fit_logistic(x, y, fit=fit)
        except DataError:
            continue
        places = np.linspace(x.min(), x.max(), 60)
        return list(zip(places.tolist(), curve(places).tolist(), strict=True))
    return []


def _rows(found: Mapping[str, Any]) -> dict[str, str]:
    return {key: text for key, text in _NAMES.items() if found.get(key)}
