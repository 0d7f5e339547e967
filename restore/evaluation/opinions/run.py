"""Run a quality model over rated images and say how well its scores agree with people's opinions.

Written are `results.json` (every figure), `scores.csv` (every score) and `report.html` (scatter plots with the fitted
curves).
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from restore.analysis.cost import count_parameters
from restore.data.ratings.splits import repeated_splits
from restore.errors import DataError
from restore.evaluation.opinions.report import render
from restore.files import atomic_write, encoded
from restore.inference.judging import Judgement, judgements
from restore.locks import reserved
from restore.metrics.correlation import bootstrap_interval, correlations, krcc, plcc, rmse, srcc
from restore.quality import QualityModel
from restore.terminal import csv_text

__all__ = ["agreement", "evaluate_quality", "median_over_splits"]

FITS = ("none", "logistic4", "logistic5")
_FUNCTIONS: dict[str, Callable[..., float]] = {"srcc": srcc, "plcc": plcc, "krcc": krcc, "rmse": rmse}


def evaluate_quality(
    model: QualityModel,
    datasets: Mapping[str, Dataset],
    *,
    name: str,
    results_root: str | Path = "results",
    num_splits: int = 10,
    options: str = "",
) -> dict[str, Any]:
    """Judge every image of every dataset and write `results_root/name`; returns what results.json holds.

    Args:
        model: the quality model.
        datasets: rated images by name.
        name: name of the run.
        results_root: folder of all results.
        num_splits: how many random test parts (a fifth of the scenes) the medians are taken over.
        options: text of the resolved options, written beside the results.

    Raises:
        ImageError: an image cannot be judged; names it.
        DataError: a correlation is undefined: too few images, NaN, or constant scores.
    """
    folder = Path(results_root) / name
    with reserved(folder):
        judged = {key: list(judgements(model, dataset)) for key, dataset in datasets.items()}
        found: dict[str, Any] = {}
        for key, each in judged.items():
            scores, opinions = [one.score for one in each], [one.opinion for one in each]
            found[key] = agreement(scores, opinions)
            found[key]["median_over_splits"] = _median_if_defined(scores, opinions, datasets[key], num_splits)
        parameters = count_parameters(model)
        results = {"name": name, "network": type(model).__name__, "parameters": parameters, "datasets": found}
        files = {
            "results.json": json.dumps(results, indent=2) + "\n",
            "scores.csv": _table(judged),
            "report.html": render(results, judged),
            f"{name}.yml": options,
        }
        for file_name, text in files.items():
            if text:
                with atomic_write(folder / file_name) as file:
                    file.write(encoded(text))
        return results


def agreement(
    scores: Sequence[float], opinions: Sequence[float], *, resamples: int = 200, seed: int = 0
) -> dict[str, Any]:
    """SRCC, PLCC, KRCC and RMSE, raw and after the logistics of four and five parameters, with 95 % intervals.

    A logistic that cannot be fitted is null.

    Raises:
        DataError: fewer than three images, NaN, or one side is constant: a correlation is undefined.
    """
    found: dict[str, Any] = {"num_images": len(scores), "none": correlations(scores, opinions)}
    for fit in FITS[1:]:
        try:
            found[fit] = correlations(scores, opinions, fit=fit)
        except DataError:
            found[fit] = None
    found["intervals"] = {
        name: bootstrap_interval(function, scores, opinions, resamples=resamples, seed=seed)
        for name, function in _FUNCTIONS.items()
    }
    return found


def median_over_splits(
    scores: Sequence[float],
    opinions: Sequence[float],
    scenes: Sequence[Hashable],
    num_splits: int = 10,
    test_share: float = 0.2,
    seed: int = 0,
) -> dict[str, float]:
    """The median of each raw correlation over the test parts of repeated splits by scene.

    Of a model that was trained on none of the scenes; one that is trained anew for each split is run once with each
    `split_seed`, and the median taken over these runs.
    """
    rows = []
    for _, test in repeated_splits(scenes, num_splits, test_share, seed):
        rows.append(correlations([scores[index] for index in test], [opinions[index] for index in test]))
    return {name: statistics.median(row[name] for row in rows) for name in rows[0]} | {"num_splits": num_splits}


def _median_if_defined(
    scores: Sequence[float], opinions: Sequence[float], dataset: Dataset, num_splits: int
) -> dict[str, float] | None:
    """`median_over_splits` where the dataset knows its scenes and has enough of them, otherwise nothing."""
    scenes = getattr(dataset, "scenes", None)
    if scenes is None:
        return None
    try:
        return median_over_splits(scores, opinions, scenes, num_splits)
    except DataError:
        return None


def _table(judged: Mapping[str, Sequence[Judgement]]) -> str:
    rows = [("dataset", "image", "score", "opinion")]
    for dataset, each in judged.items():
        rows += [(dataset, one.image, f"{one.score:.6f}", f"{one.opinion:.6f}") for one in each]
    return csv_text(rows)
